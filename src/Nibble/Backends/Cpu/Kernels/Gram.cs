using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// sum += xᵀ·x, the lower triangle (a symmetric rank-k update), with the tiles of the matrix product. Columns of x are packed once,
/// as panels of two vectors: one panel is both the weights of a tile and, some of its lanes at a time, the rows of another.
/// Each element is summed over the rows of x in one order, whatever the number of threads.
/// </summary>
internal static unsafe class Gram<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    // Steps between two visits of the results: a panel of 128 × 16 floats of either side takes a quarter of the first-level cache.
    private const int DepthBlock = 128;

    // Columns of a part's square: its panels and results stay in the second-level cache.
    private const int Block = 64;

    private static int Width => Gemm<S, V>.PanelWidth;

    /// <summary>Adds the products of all pairs of columns of x <c>[rows, columns]</c>.</summary>
    public static void Add(CpuThreads threads, float* x, nint rows, nint columns, double* sum)
    {
        if (rows == 0 || columns == 0)
        {
            return;
        }

        nint panels = (columns + Width - 1) / Width;
        using CpuScratch.Lease packed = CpuScratch.Rent(panels * rows * Width * sizeof(float));
        threads.Run(checked((int)panels), new PackJob { X = x, Panels = (float*)packed.Pointer, Rows = rows, Columns = columns });
        SquareJob job = new() { Panels = (float*)packed.Pointer, Rows = rows, Columns = columns, Sum = sum };
        threads.Run(job.Parts, job);
    }

    private struct PackJob : ICpuJob
    {
        public float* X, Panels;
        public nint Rows, Columns;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            nint first = (nint)part * Width, lanes = nint.Min(Width, Columns - first);
            float* source = X + first, target = Panels + (first * Rows);
            for (nint row = 0; row < Rows; row++, source += Columns, target += Width)
            {
                if (lanes == Width)
                {
                    S.Store(S.Load(source), target);
                    S.Store(S.Load(source + S.Count), target + S.Count);
                    continue;
                }

                for (int lane = 0; lane < Width; lane++)
                {
                    target[lane] = lane < lanes ? source[lane] : 0;
                }
            }
        }
    }

    /// <summary>One square of the results on or below the diagonal.</summary>
    private struct SquareJob : ICpuJob
    {
        public float* Panels;
        public nint Rows, Columns;
        public double* Sum;

        public readonly int Parts
        {
            get
            {
                int blocks = Kernels.Parts.Count(Columns, Block);
                return checked(blocks * (blocks + 1) / 2);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            // Squares are numbered along the rows of the triangle: those of one row share its panels.
            nint row = 0, column = part;
            while (column > row)
            {
                column -= ++row;
            }

            using CpuScratch.Lease scratch = CpuScratch.Rent(Block * Block * sizeof(float));
            float* square = (float*)scratch.Pointer;
            for (nint k = 0; k < Rows; k += DepthBlock)
            {
                Multiply(row * Block, column * Block, k, square);
            }

            AddUp(row * Block, column * Block, square);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Multiply(nint firstRow, nint firstColumn, nint k, float* square)
        {
            nint endRow = nint.Min(Columns, firstRow + Block), endColumn = nint.Min(Columns, firstColumn + Block);
            Tile tile = new()
            {
                Depth = nint.Min(DepthBlock, Rows - k), AStep = Width, BStep = Width * sizeof(float),
                PanelBytes = Rows * Width * sizeof(float), CStride = Block, StartStride = Block,
            };
            for (nint column = firstColumn; column < endColumn;)
            {
                int panels = endColumn - column > Width ? Gemm<S, V>.TilePanels : 1;
                tile.B = (byte*)(Panels + (column * Rows) + (k * Width));
                for (nint row = nint.Max(firstRow, column); row < endRow; row += Width)
                {
                    tile.C = square + ((row - firstRow) * Block) + (column - firstColumn);
                    RunPanel(panels, Panels + (row * Rows) + (k * Width), k > 0, tile);
                }

                column += panels * Width;
            }
        }

        // The lanes of a panel as rows: 16 are tiles of 6, 6 and 4.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void RunPanel(int panels, float* lanes, bool goesOn, Tile tile)
        {
            float* square = tile.C;
            for (int lane = 0; lane < Width; lane += Gemm<S, V>.TileRows)
            {
                tile.A = lanes + lane;
                tile.C = square + (lane * Block);
                tile.Start = goesOn ? tile.C : null;
                Gemm<S, V>.RunTile<FloatLoader>(Math.Min(Gemm<S, V>.TileRows, Width - lane), panels, tile);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void AddUp(nint firstRow, nint firstColumn, float* square)
        {
            nint rows = nint.Min(Block, Columns - firstRow);
            for (nint i = 0; i < rows; i++)
            {
                double* target = Sum + ((firstRow + i) * Columns) + firstColumn;
                nint count = nint.Min(nint.Min(Block, Columns - firstColumn), firstRow + i + 1 - firstColumn);
                for (nint j = 0; j < count; j++)
                {
                    target[j] += square[(i * Block) + j];
                }
            }
        }
    }
}
