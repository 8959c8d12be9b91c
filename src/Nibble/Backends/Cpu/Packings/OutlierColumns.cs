namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// The columns of x that hold an outlier in any row (LLM.int8, arXiv 2208.07339, section 3). As bitsandbytes does: the absmax of a
/// row is taken with its outliers set to 0, the other entries of outlier columns still count; then these columns are 0 in every
/// row of the int8 product, and multiply the dequantized columns of the weight in F32.
/// </summary>
internal unsafe struct OutlierColumns
{
    public float Threshold;

    /// <summary>The columns, ascending.</summary>
    public int* Columns;
    public int Count;

    /// <summary>x at these columns, <c>[rows, Count]</c>.</summary>
    public float* X;

    /// <summary>Writes the outlier columns of x to <paramref name="columns"/> (room for all) and returns how many there are.</summary>
    public static int Find(float* x, nint rows, nint width, float threshold, int* columns)
    {
        new Span<int>(columns, checked((int)width)).Clear();
        for (nint row = 0; row < rows; row++, x += width)
        {
            if (Int8Activations.Largest(x, width) < threshold)
            {
                continue;
            }

            for (nint k = 0; k < width; k++)
            {
                columns[k] |= MathF.Abs(x[k]) >= threshold ? 1 : 0;
            }
        }

        int count = 0;
        for (int k = 0; k < width; k++)
        {
            if (columns[k] != 0)
            {
                columns[count++] = k;
            }
        }

        return count;
    }

    /// <summary>Quantizes a row of x without its outliers, and takes them to <see cref="X"/>.</summary>
    public readonly void Quantize(in Int8Activations x, nint row)
    {
        using CpuScratch.Lease scratch = CpuScratch.Rent(x.Columns * sizeof(float));
        float* values = (float*)scratch.Pointer, source = x.X + (row * x.Columns);
        for (nint k = 0; k < x.Columns; k++)
        {
            values[k] = MathF.Abs(source[k]) >= Threshold ? 0 : source[k];
        }

        float absmax = Int8Activations.Largest(values, x.Columns);
        for (int i = 0; i < Count; i++)
        {
            X[(row * Count) + i] = source[Columns[i]];
            values[Columns[i]] = 0;
        }

        x.Quantize(row, values, absmax);
    }

    /// <summary>y += x at the outlier columns times those columns of a panel.</summary>
    public readonly void Add(PanelPacking packing, in CpuMatMul call, nint feature, nint row, nint rows)
    {
        int lanes = packing.Variant.PanelWidth;
        using CpuScratch.Lease scratch = CpuScratch.Rent(Count * lanes * sizeof(float));
        float* values = (float*)scratch.Pointer;
        for (int i = 0; i < Count; i++)
        {
            packing.DecodeColumn((call.First + feature) / lanes, Columns[i], values + (i * lanes));
        }

        float* sums = stackalloc float[2 * lanes];
        nint valid = nint.Min(lanes, call.Count - feature);
        for (nint r = row; r < row + rows; r++)
        {
            new Span<float>(sums, 2 * lanes).Clear();
            packing.Variant.Panels.AddRow(X + (r * Count), Count, values, values, sums);
            float* y = call.Output + (r * call.YStride) + feature;
            for (nint j = 0; j < valid; j++)
            {
                y[j] += sums[j];
            }
        }
    }
}
