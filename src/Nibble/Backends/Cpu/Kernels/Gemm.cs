using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// The blocked matrix product y = x·Wᵀ + bias (the scheme of GotoBLAS and BLIS): rows of x are packed into interleaved tiles once
/// per call, weights come as panels, and a part of the work is a block of rows times a few panels over all of k.
/// Every element of y is summed in the same order, whatever the number of rows, the tile or the thread.
/// </summary>
internal static unsafe class Gemm<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    /// <summary>Rows of the largest tile: 6 × 2 vectors of sums fill 16 registers, 6 × 4 fill 32.</summary>
    public const int TileRows = 6;

    /// <summary>Steps of k between two visits of y: a panel block of 256 × 16 floats is half of a 32 KB first-level cache.</summary>
    public const int DepthBlock = 256;

    // 192 rows × 256 floats of x are 192 KB: they stay in the second-level cache while the panels of a part pass by.
    private const int RowBlock = 192;
    private const int PanelsPerPart = 8;
    private const nint MostPackedBytes = 16 << 20;

    /// <summary>Output features of a panel.</summary>
    public static int PanelWidth => 2 * S.Count;

    /// <summary>Panels of one tile: as many as the registers hold.</summary>
    private static int TilePanels => S.Count == 16 ? 2 : 1;

    /// <summary>Rows of the kernel that serves <paramref name="rows"/> (1 to 6) rows.</summary>
    public static int KernelRows(nint rows) => rows switch { 1 => 1, 2 => 2, 3 or 4 => 4, _ => TileRows };

    /// <summary>Multiplies; the packing is read through its F32 panels if it has them, else decoded panel by panel.</summary>
    public static void Multiply(CpuPacking weights, in CpuMatMul call)
    {
        nint depth = weights.In;
        nint most = nint.Max(RowBlock, MostPackedBytes / (sizeof(float) * nint.Max(depth, 1)) / RowBlock * RowBlock);
        for (nint row = 0; row < call.Rows; row += most)
        {
            nint rows = nint.Min(most, call.Rows - row);
            using CpuScratch.Lease packed = CpuScratch.Rent((rows + TileRows) * depth * sizeof(float));
            PackJob pack = new() { X = call.Input + (row * depth), Rows = rows, Depth = depth, Packed = (float*)packed.Pointer };
            call.Threads.Run(pack.Parts, pack);
            MultiplyJob job = new()
            {
                Weights = weights,
                Panels = weights.FloatPanels,
                Packed = (float*)packed.Pointer,
                Rows = rows,
                Y = call.Output + (row * call.YStride),
                YStride = call.YStride,
                Bias = call.FirstBias,
                First = call.First,
                Count = call.Count,
                RowBlocks = (int)((rows + RowBlock - 1) / RowBlock),
            };
            call.Threads.Run(job.Parts, job);
        }
    }

    /// <summary>Interleaves up to 6 rows of x: <c>packed[k·R + i]</c>, R = <see cref="KernelRows"/>; missing rows are zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackTile(float* x, nint rows, nint depth, float* packed)
    {
        int tile = KernelRows(rows);
        if (rows == TileRows)
        {
            PackSix(x, depth, packed);
            return;
        }

        for (int i = 0; i < tile; i++)
        {
            float* source = x + (i * depth);
            for (nint k = 0; k < depth; k++)
            {
                packed[(k * tile) + i] = i < rows ? source[k] : 0;
            }
        }
    }

    /// <summary>Runs the inner kernel of <paramref name="rows"/> × <paramref name="panels"/>.</summary>
    public static void RunTile<L>(int rows, int panels, in Tile tile)
        where L : struct, IPanelLoader
    {
        switch ((rows * 8) + panels)
        {
            case 12: Tiles<S, V, L>.R1P4(tile); break;
            case 9: Tiles<S, V, L>.R1P1(tile); break;
            case 18: Tiles<S, V, L>.R2P2(tile); break;
            case 17: Tiles<S, V, L>.R2P1(tile); break;
            case 33: Tiles<S, V, L>.R4P1(tile); break;
            case 34: Tiles<S, V, L>.R4P2(tile); break;
            case 49: Tiles<S, V, L>.R6P1(tile); break;
            case 50: Tiles<S, V, L>.R6P2(tile); break;
            default: throw new InvalidOperationException($"no tile of {rows} rows and {panels} panels");
        }
    }

    /// <summary>Panels that the kernel of <paramref name="rows"/> rows takes at once, of those left.</summary>
    public static int KernelPanels(int rows, nint left)
    {
        int most = rows switch { 1 => 4, 2 => 2, _ => TilePanels };
        return left >= most ? most : 1;
    }

    /// <summary>
    /// Runs a tile whose rows or features may stick out of y: it then goes through a buffer, from which the valid part is copied.
    /// </summary>
    public static void RunTile<L>(int kernelRows, int panels, nint rows, nint features, ref Tile tile)
        where L : struct, IPanelLoader
    {
        int width = panels * PanelWidth;
        if (kernelRows == rows && features >= width)
        {
            RunTile<L>(kernelRows, panels, tile);
            return;
        }

        float* buffer = stackalloc float[TileRows * 4 * PanelWidth];
        float* y = tile.C, start = tile.Start;
        (nint stride, nint startStride) = (tile.CStride, tile.StartStride);
        tile.C = buffer;
        tile.CStride = width;
        tile.Start = null;
        RunTile<L>(kernelRows, panels, tile);
        nint valid = nint.Min(features, width);
        for (nint i = 0; i < rows; i++)
        {
            for (nint j = 0; j < valid; j++)
            {
                y[(i * stride) + j] = buffer[(i * width) + j] + (start == null ? 0 : start[(i * startStride) + j]);
            }
        }
    }

    private static void PackSix(float* x, nint depth, float* packed)
    {
        float* r0 = x, r1 = r0 + depth, r2 = r1 + depth, r3 = r2 + depth, r4 = r3 + depth, r5 = r4 + depth;
        for (nint k = 0; k < depth; k++, packed += TileRows)
        {
            packed[0] = r0[k];
            packed[1] = r1[k];
            packed[2] = r2[k];
            packed[3] = r3[k];
            packed[4] = r4[k];
            packed[5] = r5[k];
        }
    }

    private struct PackJob : ICpuJob
    {
        private const int TilesPerPart = 8;
        public float* X;
        public float* Packed;
        public nint Rows, Depth;

        public readonly int Parts => checked((int)((Rows + (TilesPerPart * TileRows) - 1) / (TilesPerPart * TileRows)));

        public readonly void Execute(int part)
        {
            nint first = (nint)part * TilesPerPart * TileRows;
            nint end = nint.Min(Rows, first + (TilesPerPart * TileRows));
            for (nint row = first; row < end; row += TileRows)
            {
                PackTile(X + (row * Depth), nint.Min(TileRows, Rows - row), Depth, Packed + (row * Depth));
            }
        }
    }

    private struct MultiplyJob : ICpuJob
    {
        public CpuPacking Weights;
        public float* Panels, Packed, Y, Bias;
        public nint Rows, YStride, First, Count;
        public int RowBlocks;

        public readonly int Parts => checked((int)(RowBlocks * ((Count + PartWidth - 1) / PartWidth)));

        private static int PartWidth => PanelsPerPart * PanelWidth;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            // Row blocks run fastest: the panels of a part are then still in the shared cache for the next one.
            nint row = (nint)(part % RowBlocks) * RowBlock;
            nint feature = (nint)(part / RowBlocks) * PartWidth;
            nint end = nint.Min(Count, feature + PartWidth);
            using CpuScratch.Lease scratch = CpuScratch.Rent(Panels == null ? TilePanels * PanelWidth * DepthBlock * sizeof(float) : 0);
            for (nint k = 0; k < nint.Max(Weights.In, 1); k += DepthBlock)
            {
                for (nint j = feature; j < end; j += TilePanels * PanelWidth)
                {
                    int panels = end - j > PanelWidth ? TilePanels : 1;
                    RunPanels(k, j, panels, row, (float*)scratch.Pointer);
                }
            }
        }

        private readonly void RunPanels(nint k, nint feature, int panels, nint firstRow, float* scratch)
        {
            nint depth = Weights.In;
            nint steps = nint.Min(DepthBlock, depth - k);
            Tile tile = new() { Depth = steps, BStep = PanelWidth * sizeof(float), CStride = YStride };
            if (Panels != null)
            {
                tile.B = (byte*)(Panels + ((First + feature) * depth) + (k * PanelWidth));
                tile.PanelBytes = depth * PanelWidth * sizeof(float);
            }
            else
            {
                tile.B = (byte*)scratch;
                tile.PanelBytes = steps * PanelWidth * sizeof(float);
                Decode(k, steps, feature, panels, scratch);
            }

            nint endRow = nint.Min(Rows, firstRow + RowBlock);
            for (nint row = firstRow; row < endRow; row += TileRows)
            {
                nint rows = nint.Min(TileRows, Rows - row);
                int kernelRows = KernelRows(rows);
                tile.A = Packed + (row * depth) + (k * kernelRows);
                tile.C = Y + (row * YStride) + feature;
                tile.Start = k > 0 ? tile.C : Bias == null ? null : Bias + feature;
                tile.StartStride = k > 0 ? YStride : 0;
                RunRows(kernelRows, panels, rows, Count - feature, tile);
            }
        }

        private readonly void Decode(nint k, nint steps, nint feature, int panels, float* scratch)
        {
            for (int p = 0; p < panels; p++)
            {
                nint first = First + feature + (p * PanelWidth);
                int rows = (int)nint.Min(PanelWidth, Weights.Out - first);
                Weights.DecodePanel(first, rows, k, steps, scratch + (p * steps * PanelWidth));
            }
        }

        // Kernels of few rows have other numbers of panels than the large tile.
        private static void RunRows(int kernelRows, int panels, nint rows, nint features, Tile tile)
        {
            for (int p = 0; p < panels;)
            {
                int count = KernelPanels(kernelRows, panels - p);
                Tile piece = tile;
                piece.B += p * tile.PanelBytes;
                piece.C += p * PanelWidth;
                piece.Start = tile.Start == null ? null : tile.Start + (p * PanelWidth);
                RunTile<FloatLoader>(kernelRows, count, rows, features - (p * PanelWidth), ref piece);
                p += count;
            }
        }
    }
}
