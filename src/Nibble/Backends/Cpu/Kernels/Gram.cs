using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Gradients;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// sum += xᵀ·x, the lower triangle (a symmetric rank-k update), with the tiles of the matrix product. Columns of x are packed
/// once in either form: as the rows of tiles and as panels. Each element is summed over the rows of x in one order, whatever the
/// number of threads.
/// </summary>
internal static unsafe class Gram<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    // Steps between two visits of the results: a panel of 256 × 16 floats is half of the first-level cache.
    private const int DepthBlock = Gemm<S, V>.DepthBlock;

    // A multiple of 6 (a tile) and of every panel: what is packed at a time, and the rows of a rectangle of results.
    private const int Block = 96;

    // Columns of a rectangle: its results and the tiles of its rows stay in the second-level cache while the panels pass.
    private const int Columns = 2 * Block;

    private static int Width => Gemm<S, V>.PanelWidth;

    /// <summary>Adds the products of all pairs of columns of x <c>[rows, columns]</c>.</summary>
    public static void Add(CpuThreads threads, float* x, nint rows, nint columns, double* sum)
    {
        if (rows == 0 || columns == 0)
        {
            return;
        }

        nint blocks = (columns + Block - 1) / Block, floats = blocks * Block * rows;
        using CpuScratch.Lease packed = CpuScratch.Rent(2 * floats * sizeof(float));
        Packed both = new() { Tiles = (float*)packed.Pointer, Panels = (float*)packed.Pointer + floats, Rows = rows, Columns = columns, Padded = blocks * Block };
        threads.Run(checked((int)blocks), new PackJob { X = x, Packed = both });
        RectangleJob job = new() { Packed = both, Sum = sum };
        threads.Run(job.Parts, job);
    }

    /// <summary>x twice: block of rows after block of rows, in each all tiles and all panels one after the other.</summary>
    private struct Packed
    {
        public float* Tiles, Panels;
        public nint Rows, Columns, Padded;
    }

    private struct PackJob : ICpuJob
    {
        public float* X;
        public Packed Packed;

        public readonly void Execute(int part)
        {
            nint first = (nint)part * Block, count = nint.Min(Block, Packed.Columns - first);
            for (nint k = 0; k < Packed.Rows; k += DepthBlock)
            {
                nint steps = nint.Min(DepthBlock, Packed.Rows - k), at = (k * Packed.Padded) + (first * steps);
                float* source = X + (k * Packed.Columns) + first;
                Blocks<S, V>.PackTiles(source, 1, Packed.Columns, count, steps, Packed.Tiles + at);
                Blocks<S, V>.PackPanels(source, Packed.Columns, 1, steps, count, Packed.Panels + at);
            }
        }
    }

    /// <summary>One rectangle of the results that reaches the diagonal or lies below it.</summary>
    private struct RectangleJob : ICpuJob
    {
        public Packed Packed;
        public double* Sum;

        public readonly int Parts
        {
            get
            {
                int parts = 0;
                for (nint row = 0; row < Packed.Columns; row += Block)
                {
                    parts += Across(row);
                }

                return parts;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            // Rectangles are numbered along the rows of the triangle: those of one row share its tiles.
            nint row = 0;
            while (part >= Across(row))
            {
                part -= Across(row);
                row += Block;
            }

            using CpuScratch.Lease scratch = CpuScratch.Rent(Block * Columns * sizeof(float));
            float* results = (float*)scratch.Pointer;
            for (nint k = 0; k < Packed.Rows; k += DepthBlock)
            {
                Multiply(row, (nint)part * Columns, k, results);
            }

            AddUp(row, (nint)part * Columns, results);
        }

        private static int Across(nint row) => (int)((row + Block + Columns - 1) / Columns);

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Multiply(nint firstRow, nint firstColumn, nint k, float* results)
        {
            nint endRow = nint.Min(Packed.Columns, firstRow + Block), endColumn = nint.Min(endRow, firstColumn + Columns);
            nint steps = nint.Min(DepthBlock, Packed.Rows - k);
            Tile tile = new()
            {
                Depth = steps, BStep = Width * sizeof(float), PanelBytes = steps * Width * sizeof(float), CStride = Columns, StartStride = Columns,
            };
            for (nint column = firstColumn; column < endColumn;)
            {
                int panels = endColumn - column > Width ? Gemm<S, V>.TilePanels : 1;
                tile.B = (byte*)(Packed.Panels + (k * Packed.Padded) + (column * steps));
                // Tiles that end above the panel's first column have nothing below the diagonal.
                nint above = nint.Max(0, column - firstRow) / Gemm<S, V>.TileRows * Gemm<S, V>.TileRows;
                for (nint row = firstRow + above; row < endRow; row += Gemm<S, V>.TileRows)
                {
                    int kernelRows = Gemm<S, V>.KernelRows(endRow - row);
                    tile.A = Packed.Tiles + (k * Packed.Padded) + (row * steps);
                    tile.AStep = kernelRows;
                    tile.C = results + ((row - firstRow) * Columns) + (column - firstColumn);
                    tile.Start = k > 0 ? tile.C : null;
                    RunTile(kernelRows, panels, tile);
                }

                column += panels * Width;
            }
        }

        // Kernels of few rows take other numbers of panels at once than the large tile.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void RunTile(int rows, int panels, in Tile tile)
        {
            for (int p = 0; p < panels;)
            {
                int count = Math.Min(panels - p, Gemm<S, V>.KernelPanels(rows, panels - p));
                Tile piece = tile;
                piece.B += p * tile.PanelBytes;
                piece.C += p * Width;
                piece.Start = tile.Start == null ? null : tile.Start + (p * Width);
                Gemm<S, V>.RunTile<FloatLoader>(rows, count, piece);
                p += count;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void AddUp(nint firstRow, nint firstColumn, float* results)
        {
            nint rows = nint.Min(Block, Packed.Columns - firstRow);
            for (nint i = 0; i < rows; i++)
            {
                double* target = Sum + ((firstRow + i) * Packed.Columns) + firstColumn;
                nint count = nint.Min(Columns, firstRow + i + 1 - firstColumn);
                for (nint j = 0; j < count; j++)
                {
                    target[j] += results[(i * Columns) + j];
                }
            }
        }
    }
}
