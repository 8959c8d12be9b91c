using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// The product with int8 activations over all panels: x is quantized once, then every part multiplies some panels with a block of
/// rows. Each element is computed in the same way, whatever the number of rows or threads.
/// </summary>
internal static unsafe class Int8Product
{
    // From here on decoding a strip first costs less than decoding it in registers again and again.
    private const int LeastDecodedRows = 6;

    /// <summary>Quantizes x and multiplies. <paramref name="outliers"/>: the columns that go the high-precision way.</summary>
    public static void Multiply(PanelPacking packing, in CpuMatMul call, in OutlierColumns outliers)
    {
        bool isDecoded = call.Rows >= LeastDecodedRows;
        Int8Activations x = packing.Activations8(call);
        x.IsWide = isDecoded && packing.DecodedFormat == ByteFormat.Words;
        using CpuScratch.Lease memory = CpuScratch.Rent(x.ByteLength);
        x.Place(memory.Pointer);
        QuantizeJob quantize = new() { X = x, Outliers = outliers };
        call.Threads.Run(quantize.Parts, quantize);
        if (call.Rows == 1)
        {
            RowInt8Job row = new() { Packing = packing, Call = call, X = x, Outliers = outliers };
            call.Threads.Run(row.Parts, row);
            return;
        }

        MultiplyJob multiply = new() { Packing = packing, Call = call, X = x, Outliers = outliers, IsDecoded = isDecoded };
        call.Threads.Run(multiply.Parts, multiply);
    }

    private struct QuantizeJob : ICpuJob
    {
        public Int8Activations X;
        public OutlierColumns Outliers;

        public readonly int Parts => Kernels.Parts.Count(X.Rows, RowsPerPart);

        private readonly nint RowsPerPart => Kernels.Parts.RowsPerPart(X.Columns);

        public readonly void Execute(int part)
        {
            nint end = nint.Min(X.Rows, (part + 1) * RowsPerPart);
            for (nint row = part * RowsPerPart; row < end; row++)
            {
                if (Outliers.Count == 0)
                {
                    X.Quantize(row);
                }
                else
                {
                    Outliers.Quantize(X, row);
                }
            }
        }
    }

    private struct MultiplyJob : ICpuJob
    {
        // Rows of x whose bytes stay in the second-level cache while panels pass by; weights of a part: some microseconds.
        private const int RowBlock = 256;
        private const nint WeightsPerPart = 64 << 10;

        // Two vectors of 16 floats.
        private const int MostLanes = 32;
        public PanelPacking Packing;
        public CpuMatMul Call;
        public Int8Activations X;
        public OutlierColumns Outliers;
        public bool IsDecoded;

        public readonly int Parts => PanelParts * RowBlocks;

        private readonly int Lanes => Packing.Variant.PanelWidth;

        private readonly ByteKernels Bytes => Packing.Variant.Kernels(IsDecoded);

        private readonly int RowBlocks => Kernels.Parts.Count(Call.Rows, RowBlock);

        private readonly int PanelParts => Kernels.Parts.Count(Call.Count, PartWidth);

        private readonly nint PartWidth => Lanes * nint.Max(1, WeightsPerPart / (Lanes * nint.Max(1, X.Columns) * nint.Min(4, nint.Max(1, Call.Rows))));

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            nint row = (nint)(part % RowBlocks) * RowBlock;
            nint rows = nint.Min(RowBlock, Call.Rows - row);
            nint end = nint.Min(Call.Count, ((part / RowBlocks) + 1) * PartWidth);
            nint bytes = X.Groups * Lanes * sizeof(float);
            using CpuScratch.Lease values = CpuScratch.Rent(2 * bytes);
            using CpuScratch.Lease codes = CpuScratch.Rent(IsDecoded ? Packing.DecodedWords * sizeof(uint) : 0);
            for (nint feature = part / RowBlocks * PartWidth; feature < end; feature += Lanes)
            {
                ByteTile tile = Packing.Tile((Call.First + feature) / Lanes, (float*)values.Pointer, (float*)((byte*)values.Pointer + bytes));
                for (int strip = 0; strip < Lanes && feature + strip < Call.Count; strip += Bytes.StripLanes)
                {
                    RunStrip(tile, strip, feature + strip, row, rows, (uint*)codes.Pointer);
                }

                if (Outliers.Count > 0)
                {
                    Outliers.Add(Packing, Call, feature, row, rows);
                }
            }
        }

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void RunStrip(ByteTile tile, int strip, nint feature, nint row, nint rows, uint* codes)
        {
            int width = Bytes.StripLanes;
            nint valid = nint.Min(width, Call.Count - feature);
            float* bias = stackalloc float[MostLanes], buffer = stackalloc float[Bytes.MostRows * MostLanes];
            tile.Bias = Call.FirstBias + feature;
            if (valid < width || Call.FirstBias == null)
            {
                new Span<float>(bias, width).Clear();
                new Span<float>(Call.FirstBias + feature, Call.FirstBias == null ? 0 : (int)valid).CopyTo(new Span<float>(bias, width));
                tile.Bias = bias;
            }

            tile.Words += strip;
            tile.Scales += strip;
            tile.Offsets += strip;
            (tile.XStride, tile.SumStride) = (X.IsWide ? 2 * X.Stride : X.Stride, X.Groups);
            if (IsDecoded)
            {
                Packing.Decode(ref tile, codes);
            }

            sbyte* x = X.IsWide ? (sbyte*)X.Wide : X.Values;
            for (nint r = row; r < row + rows;)
            {
                int count = Bytes.Rows(row + rows - r, IsDecoded);
                tile.X = x + (r * tile.XStride);
                tile.Sums = X.Sums + (r * X.Groups);
                tile.XScales = X.Scales + r;
                float* y = Call.Output + (r * Call.YStride) + feature;
                tile.Y = valid == width ? y : buffer;
                tile.YStride = valid == width ? Call.YStride : width;
                Packing.RunTile(count, IsDecoded, tile);
                for (int i = 0; valid < width && i < count; i++)
                {
                    new Span<float>(buffer + (i * width), (int)valid).CopyTo(new Span<float>(y + (i * Call.YStride), (int)valid));
                }

                r += count;
            }
        }
    }
}
