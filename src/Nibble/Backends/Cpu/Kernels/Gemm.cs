using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// The blocked matrix product y = x·Wᵀ + bias (the scheme of GotoBLAS and BLIS): rows of x are packed into interleaved tiles once
/// per call, weights come as panels, and a part of the work is a block of rows times some panels over all of k.
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

    // Where small products stop being cut, and the largest block of processors with 256 KB or 512 KB of second-level cache.
    private const int LeastBlockRows = 144;
    private const int PartsWanted = 16;
    private const nint MostPackedBytes = 16 << 20;

    // 144 rows × 256 floats of x are 144 KB: with the part's y they stay in the second-level cache while the panels pass by. Processors with
    // 512-bit vectors have 1 MB of it or more, which holds 576 rows, their part of y and four panel blocks: panels are then read less often.
    private static int MostBlockRows => S.Count == 16 ? 576 : LeastBlockRows;

    private static int MostPanelsPerPart => S.Count == 16 ? 4 : 16;

    /// <summary>Output features of a panel.</summary>
    public static int PanelWidth => 2 * S.Count;

    /// <summary>Panels of one tile: as many as the registers hold.</summary>
    public static int TilePanels => S.Count == 16 ? 2 : 1;

    /// <summary>Rows of the kernel that serves <paramref name="rows"/> (1 to 6) rows.</summary>
    public static int KernelRows(nint rows) => rows switch { 1 => 1, 2 => 2, 3 or 4 => 4, _ => TileRows };

    /// <summary>Multiplies; the packing is read through its F32 panels if it has them, else decoded panel by panel.</summary>
    public static void Multiply(CpuPacking weights, in CpuMatMul call)
    {
        nint depth = weights.In;
        nint fit = MostPackedBytes / (sizeof(float) * nint.Max(depth, 1)), block = fit < MostBlockRows ? LeastBlockRows : MostBlockRows;
        nint most = nint.Max(1, fit / block) * block;
        for (nint row = 0; row < call.Rows; row += most)
        {
            nint rows = nint.Min(most, call.Rows - row);
            using CpuScratch.Lease packed = CpuScratch.Rent(PackedRows.PaddedRows(rows) * depth * sizeof(float));
            PackedRows x = new() { Data = (float*)packed.Pointer, Rows = rows, Depth = depth };
            PackJob pack = new() { X = call.Input + (row * depth), Packed = x };
            call.Threads.Run(pack.Parts, pack);
            GemmJob<S, V> job = new()
            {
                Weights = weights,
                Panels = weights.FloatPanels,
                X = x,
                Y = call.Output + (row * call.YStride),
                YStride = call.YStride,
                Bias = call.FirstBias,
                First = call.First,
                Count = call.Count,
            };
            Split(ref job);
            call.Threads.Run(job.Parts, job);
        }
    }

    /// <summary>Runs the inner kernel of <paramref name="rows"/> × <paramref name="panels"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void RunTile<L>(int kernelRows, int panels, nint rows, nint features, in Tile tile)
        where L : struct, IPanelLoader
    {
        if (kernelRows == rows && features >= panels * PanelWidth)
        {
            RunTile<L>(kernelRows, panels, tile);
        }
        else
        {
            RunEdge<L>(kernelRows, panels, rows, features, tile);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void RunEdge<L>(int kernelRows, int panels, nint rows, nint features, in Tile tile)
        where L : struct, IPanelLoader
    {
        int width = panels * PanelWidth;
        float* buffer = stackalloc float[TileRows * 4 * PanelWidth];
        Tile whole = tile;
        whole.C = buffer;
        whole.CStride = width;
        whole.Start = null;
        RunTile<L>(kernelRows, panels, whole);
        nint valid = nint.Min(features, width);
        for (nint i = 0; i < rows; i++)
        {
            float* start = tile.Start == null ? null : tile.Start + (i * tile.StartStride);
            for (nint j = 0; j < valid; j++)
            {
                tile.C[(i * tile.CStride) + j] = buffer[(i * width) + j] + (start == null ? 0 : start[j]);
            }
        }
    }

    // Large parts reuse what they load; small products still need enough parts for many threads. Only the shape decides.
    private static void Split(ref GemmJob<S, V> job)
    {
        SplitRows(ref job, MostBlockRows);
        job.PanelsPerPart = MostPanelsPerPart;
        while (job.PanelsPerPart > TilePanels && job.Parts < PartsWanted)
        {
            job.PanelsPerPart /= 2;
        }

        while (job.BlockRows > LeastBlockRows && job.Parts < PartsWanted)
        {
            SplitRows(ref job, (job.BlockRows + 1) / 2);
        }
    }

    // Blocks of about the same number of rows, whole tiles.
    private static void SplitRows(ref GemmJob<S, V> job, nint most)
    {
        nint blocks = nint.Max(1, (job.X.Rows + most - 1) / most);
        job.BlockRows = (((job.X.Rows + blocks - 1) / blocks) + TileRows - 1) / TileRows * TileRows;
        job.RowBlocks = Kernels.Parts.Count(nint.Max(1, job.X.Rows), nint.Max(1, job.BlockRows));
    }

    private struct PackJob : ICpuJob
    {
        private const int RowsPerPart = 8 * TileRows;
        public float* X;
        public PackedRows Packed;

        public readonly int Parts => Kernels.Parts.Count(Packed.Rows, RowsPerPart);

        public readonly void Execute(int part)
        {
            nint end = nint.Min(Packed.Rows, (part + 1) * (nint)RowsPerPart);
            for (nint row = (nint)part * RowsPerPart; row < end; row += TileRows)
            {
                Packed.Pack(X, row);
            }
        }
    }
}

/// <summary>
/// The part of a product that one thread does at a time: a block of rows × some panels, over all of k in blocks. Within a block of
/// k the rows stay in the second-level cache and a panel block in the first-level one.
/// </summary>
internal unsafe struct GemmJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public CpuPacking Weights;
    public float* Panels, Y, Bias;
    public PackedRows X;
    public nint YStride, First, Count, BlockRows;
    public int RowBlocks, PanelsPerPart;

    public readonly int Parts => checked((int)(RowBlocks * ((Count + PartWidth - 1) / PartWidth)));

    private static int PanelWidth => Gemm<S, V>.PanelWidth;

    private readonly int PartWidth => PanelsPerPart * PanelWidth;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        // Row blocks run fastest: the panels of a part are then still in the shared cache for the next one.
        nint row = part % RowBlocks * BlockRows;
        nint feature = (nint)(part / RowBlocks) * PartWidth;
        nint end = nint.Min(Count, feature + PartWidth);
        int tile = Gemm<S, V>.TilePanels;
        using CpuScratch.Lease scratch = CpuScratch.Rent(
            Panels == null ? tile * PanelWidth * Gemm<S, V>.DepthBlock * sizeof(float) : 0);
        for (nint k = 0; k < nint.Max(X.Depth, 1); k += Gemm<S, V>.DepthBlock)
        {
            for (nint j = feature; j < end; j += tile * PanelWidth)
            {
                RunPanels(k, j, end - j > PanelWidth ? tile : 1, row, (float*)scratch.Pointer);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void RunPanels(nint k, nint feature, int panels, nint firstRow, float* scratch)
    {
        nint steps = nint.Min(Gemm<S, V>.DepthBlock, X.Depth - k);
        Tile tile = new() { Depth = steps, BStep = PanelWidth * sizeof(float), CStride = YStride };
        nint endRow = nint.Min(X.Rows, firstRow + BlockRows);
        nint ahead = 0;
        if (Panels != null)
        {
            tile.B = (byte*)(Panels + ((First + feature) * X.Depth) + (k * PanelWidth));
            tile.PanelBytes = X.Depth * PanelWidth * sizeof(float);
            ahead = steps * tile.BStep * Gemm<S, V>.TileRows / nint.Max(1, endRow - firstRow);
        }
        else
        {
            tile.B = (byte*)scratch;
            tile.PanelBytes = steps * PanelWidth * sizeof(float);
            Decode(k, steps, feature, panels, scratch);
        }

        byte* next = tile.B + (panels * tile.PanelBytes);
        for (nint row = firstRow; row < endRow; row += Gemm<S, V>.TileRows, next += ahead)
        {
            nint rows = nint.Min(Gemm<S, V>.TileRows, X.Rows - row);
            tile.A = X.Tile(row, k, steps);
            tile.AStep = Gemm<S, V>.KernelRows(rows);
            tile.C = Y + (row * YStride) + feature;
            tile.Start = k > 0 ? tile.C : Bias == null ? null : Bias + feature;
            tile.StartStride = k > 0 ? YStride : 0;
            Prefetch(next, ahead, tile.C + (Gemm<S, V>.TileRows * YStride));
            RunRows(panels, rows, Count - feature, tile);
        }
    }

    // The processor's own prefetchers stop at the end of a page or panel: fetch a share of the next panel, and the next rows of y.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Prefetch(byte* panel, nint bytes, float* y)
    {
        if (!Sse.IsSupported)
        {
            return;
        }

        for (int i = 0; i < Gemm<S, V>.TileRows; i++)
        {
            Sse.Prefetch0(y + (i * YStride));
        }

        for (nint i = 0; i < bytes; i += 64)
        {
            Sse.Prefetch1(panel + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Decode(nint k, nint steps, nint feature, int panels, float* scratch)
    {
        for (int p = 0; p < panels; p++)
        {
            nint first = First + feature + (p * PanelWidth);
            int rows = (int)nint.Min(PanelWidth, Weights.Out - first);
            Weights.DecodePanel(first, rows, k, steps, scratch + (p * steps * PanelWidth));
        }
    }

    // Kernels of few rows take other numbers of panels at once than the large tile.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunRows(int panels, nint rows, nint features, in Tile tile)
    {
        int kernelRows = Gemm<S, V>.KernelRows(rows);
        if (kernelRows == Gemm<S, V>.TileRows)
        {
            Gemm<S, V>.RunTile<FloatLoader>(kernelRows, panels, rows, features, tile);
            return;
        }

        for (int p = 0; p < panels;)
        {
            int count = Gemm<S, V>.KernelPanels(kernelRows, panels - p);
            Tile piece = tile;
            piece.B += p * tile.PanelBytes;
            piece.C += p * PanelWidth;
            piece.Start = tile.Start == null ? null : tile.Start + (p * PanelWidth);
            Gemm<S, V>.RunTile<FloatLoader>(kernelRows, count, rows, features - (p * PanelWidth), piece);
            p += count;
        }
    }
}
