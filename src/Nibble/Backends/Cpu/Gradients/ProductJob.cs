using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>A block of the right side of a product: columns First … (a multiple of the panel's width), steps Step ….</summary>
/// <param name="First">First column.</param>
/// <param name="Columns">Columns of the block.</param>
/// <param name="Step">First step of k, a multiple of <see cref="ProductJob{S, V, B}.DepthBlock"/>.</param>
/// <param name="Steps">Steps of the block.</param>
internal readonly record struct RightBlock(nint First, nint Columns, nint Step, nint Steps);

/// <summary>The right side B <c>[depth, columns]</c> of a product, brought into panels a block at a time.</summary>
internal unsafe interface IPanelSource
{
    /// <summary>Pieces in which a block can be packed, in any order.</summary>
    int Parts(in RightBlock block);

    /// <summary>Packs a piece; after all of them the block stands as the tiles read it.</summary>
    void Pack(int part, in RightBlock block, float* packed);
}

/// <summary>
/// C += A·B, blocked as in GotoBLAS: a block of B is packed once for all rows, then parts of the work are blocks of rows times that block.
/// Every element is summed in the order of k, whatever the blocks and the threads.
/// </summary>
internal unsafe struct ProductJob<S, V, B>
    where S : struct, ILanes<V>
    where V : unmanaged
    where B : struct, IPanelSource
{
    /// <summary>Steps of k between two visits of C: one panel of them (16 KB, 32 KB with 512 bits) stays in the first-level cache.</summary>
    public const int DepthBlock = 256;

    // 512 × 256 floats of B are 512 KB: with some rows of A they stay in the second-level cache.
    private const int ColumnBlock = 512;

    // Rows of a part are few enough for as many parts, and enough to use a panel often once it is loaded.
    private const int PartsWanted = 24, FewestRows = 4 * Gemm<S, V>.TileRows, MostRows = 48 * Gemm<S, V>.TileRows;

    public float* A;
    public nint RowStride, StepStride;
    public B Right;
    public nint Rows, Columns, Depth;
    public Target C;

    /// <summary>C = A·B instead of C += A·B.</summary>
    public bool Overwrite;

    /// <summary>Only C's upper triangle is asked for; below it, whole parts are left out and others are computed for nothing.</summary>
    public bool UpperOnly;

    /// <summary>Multiplies.</summary>
    public readonly void Run(CpuThreads threads)
    {
        nint width = nint.Min(ColumnBlock, Columns), most = nint.Min(DepthBlock, Depth);
        using CpuScratch.Lease lease = CpuScratch.Rent(Blocks<S, V>.PanelFloats(width, most) * sizeof(float));
        for (nint column = 0; column < Columns; column += ColumnBlock)
        {
            for (nint k = 0; k < Depth; k += DepthBlock)
            {
                RightBlock block = new(column, nint.Min(ColumnBlock, Columns - column), k, nint.Min(DepthBlock, Depth - k));
                PackJob pack = new() { Source = Right, Block = block, Packed = (float*)lease.Pointer };
                threads.Run(Right.Parts(block), pack);
                RowsJob rows = new() { Product = this, Block = block, Packed = (float*)lease.Pointer, BlockRows = BlockRows(nint.Min(Rows, LastRow(block))) };
                threads.Run(Kernels.Parts.Count(nint.Min(Rows, LastRow(block)), (int)rows.BlockRows), rows);
            }
        }
    }

    private readonly nint LastRow(in RightBlock block) => UpperOnly ? block.First + block.Columns : Rows;

    private static nint BlockRows(nint rows)
    {
        nint part = ((rows + PartsWanted - 1) / PartsWanted + Gemm<S, V>.TileRows - 1) / Gemm<S, V>.TileRows * Gemm<S, V>.TileRows;
        return nint.Clamp(part, FewestRows, MostRows);
    }

    private struct PackJob : ICpuJob
    {
        public B Source;
        public RightBlock Block;
        public float* Packed;

        public readonly void Execute(int part) => Source.Pack(part, Block, Packed);
    }

    private struct RowsJob : ICpuJob
    {
        public ProductJob<S, V, B> Product;
        public RightBlock Block;
        public float* Packed;
        public nint BlockRows;

        public readonly void Execute(int part)
        {
            nint row = part * BlockRows, rows = nint.Min(BlockRows, Product.Rows - row);
            float* a = Product.A + (row * Product.RowStride) + (Block.Step * Product.StepStride);
            Target c = Product.C.At(row, Block.First / Blocks<S, V>.Width);
            bool add = !Product.Overwrite || Block.Step > 0;
            bool strided = Product.StepStride == 1;
            using CpuScratch.Lease lease = CpuScratch.Rent(Blocks<S, V>.TileFloats(strided ? 0 : rows, Block.Steps) * sizeof(float));
            float* tiles = (float*)lease.Pointer;
            nint panel = Blocks<S, V>.Width * Block.Steps;
            if (strided)
            {
                Blocks<S, V>.MultiplyRows(a, Product.RowStride, rows, Packed, panel, Block.Columns, Block.Steps, c, add, tiles);
                return;
            }

            Blocks<S, V>.PackTiles(a, Product.RowStride, Product.StepStride, rows, Block.Steps, tiles);
            Blocks<S, V>.Multiply(tiles, rows, Packed, panel, Block.Columns, Block.Steps, c, add);
        }
    }
}

/// <summary>B is a matrix in memory.</summary>
internal readonly unsafe struct MatrixPanels<S, V>(float* pointer, nint stepStride, nint columnStride, nint valid) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int StepsPerPart = 32;

    private readonly float* _pointer = pointer;

    // Pieces of k, not of columns: rows are read in long runs.
    public int Parts(in RightBlock block) => Kernels.Parts.Count(block.Steps, StepsPerPart);

    public void Pack(int part, in RightBlock block, float* packed)
    {
        nint first = part * StepsPerPart, steps = nint.Min(StepsPerPart, block.Steps - first);
        Blocks<S, V>.PackPanels(
            _pointer + ((block.Step + first) * stepStride) + (block.First * columnStride), stepStride, columnStride, steps,
            nint.Min(block.Columns, valid - block.First), packed + (first * Blocks<S, V>.Width), Blocks<S, V>.Width * block.Steps);
    }
}

/// <summary>B is a weight <c>[out, in]</c> as it stands: depth runs over output features. A few panels of the packing are decoded at a time.</summary>
internal readonly unsafe struct WeightPanels<S, V>(CpuPacking weight) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    // A step is a multiple of every width, so a panel of the packing is never cut.
    public int Parts(in RightBlock block) => (int)Blocks<S, V>.Panels(block.Steps);

    public void Pack(int part, in RightBlock block, float* packed)
    {
        int width = Blocks<S, V>.Width;
        nint done = part * width;
        int features = (int)nint.Min(width, block.Steps - done);
        float* target = packed + (done * width);
        if (weight.FloatPanels != null)
        {
            float* panel = weight.FloatPanels + (((block.Step + done) * weight.In) + (block.First * width));
            Blocks<S, V>.TransposePanel(panel, block.Columns, features, block.Steps, target);
            return;
        }

        using CpuScratch.Lease scratch = CpuScratch.Rent(block.Columns * width * sizeof(float));
        weight.DecodePanel(block.Step + done, features, block.First, block.Columns, (float*)scratch.Pointer);
        Blocks<S, V>.TransposePanel((float*)scratch.Pointer, block.Columns, features, block.Steps, target);
    }
}

/// <summary>B is a weight transposed: depth runs over input features, as in the forward product; the packing's panels are what is needed.</summary>
internal readonly unsafe struct TransposedPanels<S, V>(CpuPacking weight) : IPanelSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public int Parts(in RightBlock block) => (int)Blocks<S, V>.Panels(block.Columns);

    public void Pack(int part, in RightBlock block, float* packed)
    {
        int width = Blocks<S, V>.Width;
        nint column = part * width;
        weight.DecodePanel(block.First + column, (int)nint.Min(width, block.Columns - column), block.Step, block.Steps, packed + (column * block.Steps));
    }
}
