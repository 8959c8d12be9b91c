using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>The right side B <c>[depth, columns]</c> of a product, brought into panels a block at a time.</summary>
internal unsafe interface IPanelSource
{
    /// <summary>Columns first … first + columns − 1 (first is a multiple of the panel's width), steps k … k + steps − 1, as <see cref="Blocks{S, V}.PackPanels"/> writes them.</summary>
    void Pack(nint first, nint columns, nint k, nint steps, float* packed);
}

/// <summary>
/// C += A·B, blocked as in GotoBLAS: a part of the work is a block of rows times a block of columns over the whole depth, so every
/// element is summed by one thread in one order.
/// </summary>
internal unsafe struct ProductJob<S, V, B> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
    where B : struct, IPanelSource
{
    // A block of A (288 × 256 floats, 288 KB) stays in the second-level cache while the panels pass; one panel (16 KB) in the first.
    private const int RowBlock = 288;
    private const int DepthBlock = 256;

    // A wide block packs A less often, a narrow one gives more parts: the widest that still leaves some for many threads.
    private const int WideColumns = 512, NarrowColumns = 128, EnoughParts = 16;

    public float* A;
    public nint RowStride, StepStride;
    public B Right;
    public nint Rows, Columns, Depth;
    public Target C;

    /// <summary>C = A·B instead of C += A·B.</summary>
    public bool Overwrite;

    /// <summary>Only C's upper triangle is asked for; below it, whole parts are left out and others are computed for nothing.</summary>
    public bool UpperOnly;

    private readonly nint RowBlocks => (Rows + RowBlock - 1) / RowBlock;

    private readonly int ColumnBlock
    {
        get
        {
            int block = WideColumns;
            while (block > NarrowColumns && RowBlocks * ((Columns + block - 1) / block) < EnoughParts)
            {
                block /= 2;
            }

            return block;
        }
    }

    public readonly int Parts => checked((int)(RowBlocks * ((Columns + ColumnBlock - 1) / ColumnBlock)));

    public readonly void Execute(int part)
    {
        int block = ColumnBlock;
        nint row = part % RowBlocks * RowBlock, column = part / RowBlocks * block;
        nint rows = nint.Min(RowBlock, Rows - row), columns = nint.Min(block, Columns - column);
        if (UpperOnly)
        {
            rows = nint.Min(rows, column + columns - row);
            if (rows <= 0)
            {
                return;
            }
        }

        nint most = nint.Min(DepthBlock, Depth);
        using CpuScratch.Lease tiles = CpuScratch.Rent(Blocks<S, V>.TileFloats(rows, most) * sizeof(float));
        using CpuScratch.Lease panels = CpuScratch.Rent(Blocks<S, V>.PanelFloats(columns, most) * sizeof(float));
        Target c = C.At(row, column / Blocks<S, V>.Width);
        for (nint k = 0; k < Depth; k += DepthBlock)
        {
            nint steps = nint.Min(DepthBlock, Depth - k);
            Right.Pack(column, columns, k, steps, (float*)panels.Pointer);
            Blocks<S, V>.PackTiles(A + (row * RowStride) + (k * StepStride), RowStride, StepStride, rows, steps, (float*)tiles.Pointer);
            Blocks<S, V>.Multiply(
                (float*)tiles.Pointer, rows, (float*)panels.Pointer, Blocks<S, V>.Width * steps, columns, steps, c, add: !Overwrite || k > 0);
        }
    }
}

/// <summary>B is a matrix in memory.</summary>
internal readonly unsafe struct MatrixPanels<S, V>(float* pointer, nint stepStride, nint columnStride, nint valid) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private readonly float* _pointer = pointer;

    public void Pack(nint first, nint columns, nint k, nint steps, float* packed) =>
        Blocks<S, V>.PackPanels(
            _pointer + (k * stepStride) + (first * columnStride), stepStride, columnStride, steps, nint.Min(columns, valid - first), packed);
}

/// <summary>B is a weight <c>[out, in]</c> as it stands: depth runs over output features. A few panels of the packing are decoded at a time.</summary>
internal readonly unsafe struct WeightPanels<S, V>(CpuPacking weight) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public void Pack(nint first, nint columns, nint k, nint steps, float* packed)
    {
        int width = Blocks<S, V>.Width;
        using CpuScratch.Lease scratch = CpuScratch.Rent(columns * width * sizeof(float));
        float* decoded = (float*)scratch.Pointer;
        if (columns % width != 0)
        {
            new Span<float>(packed, checked((int)Blocks<S, V>.PanelFloats(columns, steps))).Clear();
        }

        // DepthBlock and with it k are multiples of every width, so a panel of the packing is never cut.
        for (nint done = 0; done < steps; done += width)
        {
            int features = (int)nint.Min(width, steps - done);
            weight.DecodePanel(k + done, features, first, columns, decoded);
            for (nint j = 0; j < columns; j++)
            {
                float* target = packed + (j / width * width * steps) + (done * width) + (j % width);
                for (int i = 0; i < features; i++)
                {
                    target[i * width] = decoded[(j * width) + i];
                }
            }
        }
    }
}

/// <summary>B is a weight transposed: depth runs over input features, as in the forward product; the packing's panels are what is needed.</summary>
internal readonly unsafe struct TransposedPanels<S, V>(CpuPacking weight) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public void Pack(nint first, nint columns, nint k, nint steps, float* packed)
    {
        int width = Blocks<S, V>.Width;
        for (nint column = 0; column < columns; column += width)
        {
            weight.DecodePanel(first + column, (int)nint.Min(width, columns - column), k, steps, packed + (column * steps));
        }
    }
}
