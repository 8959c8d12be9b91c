using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Nibble.Backends.Cpu.Gradients;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.BFloat16;

/// <summary>
/// C (+)= A·B with both sides rounded to BF16 and sums in F32. Both are packed once for all (<see cref="BFloat16Layout"/>), by all threads; then parts of the
/// work are blocks of rows times some panels. Every element is summed in the order of k, from what it starts at, whatever the parts and the threads.
/// </summary>
internal unsafe struct BFloat16Product<S, V, B>
    where S : struct, ILanes<V>
    where V : unmanaged
    where B : struct, IPairSource
{
    // 16 steps of a panel of 32 columns are 32 KB: they stay in the first-level cache while rows pass by.
    private const nint StepsAtOnce = 16;

    // Packed rows of a part stay in the second-level cache while its panels pass by.
    private const nint MostPartBytes = 768 << 10, MostPackedBytes = 16 << 20;
    private const nint MostBlockRows = 256, RowsOfTiles = 32, MostPanels = 16;
    private const int PartsWanted = 16;

    // What sums start at without a bias: a panel's width of zeros.
    private static readonly nint Zeros = (nint)NativeMemory.AlignedAlloc(256, 64);

    public float* A;
    public nint RowStride, StepStride;
    public B Right;
    public nint Rows, Columns, Depth;
    public Target C;

    /// <summary>What each column starts at, or null; only without <see cref="Add"/>.</summary>
    public float* Bias;

    /// <summary>C += A·B instead of C = A·B.</summary>
    public bool Add;
    public BFloat16Kernels Kernels;

    private readonly nint Steps => BFloat16Layout.Steps(Depth);

    private static int Width => Blocks<S, V>.Width;

    static BFloat16Product() => new Span<byte>((void*)Zeros, 256).Clear();

    /// <summary>Multiplies.</summary>
    public readonly void Run(CpuThreads threads)
    {
        if (Rows == 0 || Columns == 0)
        {
            return;
        }

        nint stepBytes = Steps * BFloat16Layout.Step * sizeof(ushort);
        nint chunkRows = nint.Max(1, MostPackedBytes / stepBytes / MostBlockRows) * MostBlockRows;
        nint chunkColumns = nint.Max(1, MostPackedBytes / stepBytes / 256) * 256;
        using CpuScratch.Lease left = CpuScratch.Rent(BFloat16Layout.Tiles(nint.Min(chunkRows, Rows)) * BFloat16Layout.TileRows * stepBytes);
        using CpuScratch.Lease right = CpuScratch.Rent(Blocks<S, V>.Panels(nint.Min(chunkColumns, Columns)) * Width * stepBytes);
        nint packed = -1;
        for (nint column = 0; column < Columns; column += chunkColumns)
        {
            PairBlock block = new(column, nint.Min(chunkColumns, Columns - column), Depth, Steps);
            PackRightJob pack = new() { Source = Right, Block = block, Packed = (uint*)right.Pointer };
            threads.Run(Right.Parts(block), pack);
            for (nint row = 0; row < Rows; row += chunkRows)
            {
                nint rows = nint.Min(chunkRows, Rows - row);
                if (packed != row)
                {
                    PackLeft(threads, row, rows, (ushort*)left.Pointer);
                    packed = row;
                }

                MultiplyJob job = new() { Product = this, Row = row, Rows = rows, Block = block, Left = (ushort*)left.Pointer, Right = (uint*)right.Pointer };
                job.Split();
                threads.Run(job.Parts, job);
            }
        }
    }

    private readonly void PackLeft(CpuThreads threads, nint row, nint rows, ushort* packed)
    {
        float* a = A + (row * RowStride);
        if (StepStride == 1)
        {
            PackRowsJob job = new() { A = a, RowStride = RowStride, Rows = rows, Depth = Depth, Packed = packed };
            threads.Run(checked((int)BFloat16Layout.Tiles(rows)), job);
        }
        else
        {
            PackColumnsJob job = new() { A = a, StepStride = StepStride, Rows = rows, Depth = Depth, Packed = packed };
            threads.Run(checked((int)Steps), job);
        }
    }

    private struct PackRowsJob : ICpuJob
    {
        public float* A;
        public nint RowStride, Rows, Depth;
        public ushort* Packed;

        public readonly void Execute(int part)
        {
            nint row = (nint)part * BFloat16Layout.TileRows;
            BFloat16Layout.PackRows(
                A + (row * RowStride), RowStride, nint.Min(BFloat16Layout.TileRows, Rows - row), Depth, Packed + (part * BFloat16Layout.Steps(Depth) * BFloat16Layout.StepElements));
        }
    }

    private struct PackColumnsJob : ICpuJob
    {
        public float* A;
        public nint StepStride, Rows, Depth;
        public ushort* Packed;

        public readonly void Execute(int part)
        {
            nint k = (nint)part * BFloat16Layout.Step;
            BFloat16Layout.PackColumns(
                A + (k * StepStride), StepStride, nint.Min(BFloat16Layout.Step, Depth - k), Rows, Packed + (part * BFloat16Layout.StepElements),
                BFloat16Layout.Steps(Depth) * BFloat16Layout.StepElements);
        }
    }

    private struct PackRightJob : ICpuJob
    {
        public B Source;
        public PairBlock Block;
        public uint* Packed;

        public readonly void Execute(int part) => Source.Pack(part, Block, Packed);
    }

    private struct MultiplyJob : ICpuJob
    {
        public BFloat16Product<S, V, B> Product;
        public nint Row, Rows;
        public PairBlock Block;
        public ushort* Left;
        public uint* Right;
        private nint _blockRows, _rowBlocks, _panels;

        public readonly int Parts => checked((int)(_rowBlocks * ((Blocks<S, V>.Panels(Block.Columns) + _panels - 1) / _panels)));

        // Large parts reuse what they load; many threads need enough of them. Only the shape decides.
        public void Split()
        {
            nint most = nint.Clamp(MostPartBytes / (Product.Steps * BFloat16Layout.Step * sizeof(ushort)) / RowsOfTiles * RowsOfTiles, RowsOfTiles, MostBlockRows);
            _panels = MostPanels;
            Set(most);
            while (_panels > 1 && Parts < PartsWanted)
            {
                _panels /= 2;
            }

            while (most > RowsOfTiles && Parts < PartsWanted)
            {
                most /= 2;
                Set(most);
            }
        }

        public readonly void Execute(int part)
        {
            nint row = part % _rowBlocks * _blockRows, rows = nint.Min(_blockRows, Rows - row);
            nint panel = part / _rowBlocks * _panels, end = nint.Min(Blocks<S, V>.Panels(Block.Columns), panel + _panels);
            ushort* a = Left + (row * Product.Steps * BFloat16Layout.Step);
            for (; panel < end; panel++)
            {
                Target c = Product.C.At(Row + row, (Block.First / Width) + panel);
                nint columns = nint.Min(Width, Block.Columns - (panel * Width));
                float* bias = Product.Bias == null ? null : Product.Bias + Block.First + (panel * Width);
                uint* b = Right + (panel * Product.Steps * BFloat16Layout.StepLines * Width);
                if (columns == Width)
                {
                    RunPanel(a, rows, b, c.Pointer, c.RowStride, Product.Add ? c.Pointer : bias, Product.Add ? c.RowStride : 0);
                }
                else
                {
                    RunEdge(a, rows, b, c, columns, bias);
                }
            }
        }

        private void Set(nint most)
        {
            nint blocks = (Rows + most - 1) / most;
            _blockRows = ((Rows + blocks - 1) / blocks + RowsOfTiles - 1) / RowsOfTiles * RowsOfTiles;
            _rowBlocks = (Rows + _blockRows - 1) / _blockRows;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void RunPanel(ushort* a, nint rows, uint* b, float* c, nint stride, float* start, nint startStride)
        {
            for (nint step = 0; step < Product.Steps; step += StepsAtOnce)
            {
                BFloat16Tile tile = new()
                {
                    A = a + (step * BFloat16Layout.StepElements), TileStride = Product.Steps * BFloat16Layout.StepElements, Rows = rows,
                    B = b + (step * BFloat16Layout.StepLines * Width), Steps = nint.Min(StepsAtOnce, Product.Steps - step), C = c, CStride = stride,
                    Start = step > 0 ? c : start == null ? (float*)Zeros : start, StartStride = step > 0 ? stride : startStride,
                };
                Product.Kernels.Run(tile);
            }
        }

        // A panel that sticks out of C goes through a buffer.
        private readonly void RunEdge(ushort* a, nint rows, uint* b, Target c, nint columns, float* bias)
        {
            using CpuScratch.Lease lease = CpuScratch.Rent((rows + 1) * Width * sizeof(float));
            float* buffer = (float*)lease.Pointer, start = buffer + (rows * Width);
            new Span<float>(start, Width).Clear();
            if (bias != null)
            {
                new Span<float>(bias, (int)columns).CopyTo(new Span<float>(start, Width));
            }

            for (nint i = 0; Product.Add && i < rows; i++)
            {
                new Span<float>(buffer + (i * Width), Width).Clear();
                new Span<float>(c.Pointer + (i * c.RowStride), (int)columns).CopyTo(new Span<float>(buffer + (i * Width), Width));
            }

            RunPanel(a, rows, b, buffer, Width, Product.Add ? buffer : start, Product.Add ? Width : 0);
            for (nint i = 0; i < rows; i++)
            {
                new Span<float>(buffer + (i * Width), (int)columns).CopyTo(new Span<float>(c.Pointer + (i * c.RowStride), (int)columns));
            }
        }
    }
}
