using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>Where a product's result goes: row r of panel p at Pointer + p·PanelStride + r·RowStride.</summary>
internal readonly unsafe struct Target(float* pointer, nint rowStride, nint panelStride)
{
    public float* Pointer { get; } = pointer;

    public nint RowStride { get; } = rowStride;

    public nint PanelStride { get; } = panelStride;

    /// <summary>The part of the target that starts at a row and a panel.</summary>
    public Target At(nint row, nint panel) => new(Pointer + (row * RowStride) + (panel * PanelStride), RowStride, PanelStride);
}

/// <summary>
/// The pieces of a product C += A·B over strided matrices: both sides are brought into the form that the tiles read
/// (<see cref="Tiles{S, V, L}"/>), then multiplied. All run on the calling thread.
/// </summary>
internal static unsafe class Blocks<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    /// <summary>Rows of a tile.</summary>
    public const int TileRows = Gemm<S, V>.TileRows;

    /// <summary>Columns of a panel.</summary>
    public static int Width => Gemm<S, V>.PanelWidth;

    /// <summary>Panels that hold <paramref name="columns"/> columns.</summary>
    public static nint Panels(nint columns) => (columns + Width - 1) / Width;

    /// <summary>Floats that <see cref="PackTiles"/> may write.</summary>
    public static nint TileFloats(nint rows, nint depth) => (rows + TileRows) * depth;

    /// <summary>Floats that packed panels take.</summary>
    public static nint PanelFloats(nint columns, nint depth) => Panels(columns) * Width * depth;

    /// <summary>Interleaves rows of A: element (i, k) is <c>a[i·rowStride + k·stepStride]</c>; tile t stands at <c>packed + 6·t·depth</c>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackTiles(float* a, nint rowStride, nint stepStride, nint rows, nint depth, float* packed)
    {
        if (rowStride == 1)
        {
            nint whole = rows / TileRows * TileRows;
            PackColumns(a, stepStride, whole / TileRows, depth, packed);
            a += whole;
            packed += whole * depth;
            rows -= whole;
        }

        for (nint row = 0; row < rows; row += TileRows, packed += TileRows * depth, a += TileRows * rowStride)
        {
            nint valid = nint.Min(TileRows, rows - row);
            if (stepStride == 1)
            {
                PackedRows.PackTile(a, rowStride, valid, depth, packed);
            }
            else
            {
                PackAny(a, rowStride, stepStride, valid, depth, packed);
            }
        }
    }

    /// <summary>
    /// Copies B into panels: element (k, j) is <c>b[k·stepStride + j·columnStride]</c>, panel p stands at
    /// <c>packed + p·Width·depth</c> with one step of k after the other; columns beyond the last are zero.
    /// </summary>
    public static void PackPanels(float* b, nint stepStride, nint columnStride, nint depth, nint columns, float* packed) =>
        PackPanels(b, stepStride, columnStride, depth, columns, packed, Width * depth);

    /// <summary>The same where panels stand <paramref name="panelStride"/> floats apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackPanels(float* b, nint stepStride, nint columnStride, nint depth, nint columns, float* packed, nint panelStride)
    {
        for (nint column = 0; column < columns; column += Width, packed += panelStride, b += Width * columnStride)
        {
            nint valid = nint.Min(Width, columns - column);
            if (valid < Width)
            {
                new Span<float>(packed, checked((int)(Width * depth))).Clear();
            }

            if (columnStride == 1 && valid == Width)
            {
                for (nint k = 0; k < depth; k++)
                {
                    S.Store(S.Load(b + (k * stepStride)), packed + (k * Width));
                    S.Store(S.Load(b + (k * stepStride) + S.Count), packed + (k * Width) + S.Count);
                }

                continue;
            }

            nint first = 0;
            for (; Sse.IsSupported && Width % 4 == 0 && stepStride == 1 && valid == Width && first <= depth - 4; first += 4)
            {
                for (int j = 0; j < Width; j += 4)
                {
                    TransposeFour(b + (j * columnStride) + first, columnStride, packed + (first * Width) + j);
                }
            }

            for (nint k = first; k < depth; k++)
            {
                for (nint j = 0; j < valid; j++)
                {
                    packed[(k * Width) + j] = b[(k * stepStride) + (j * columnStride)];
                }
            }
        }
    }

    /// <summary>
    /// Writes a panel of a weight, <c>[column][lane]</c>, as steps of k of the panels over columns: lane i of column j goes to
    /// <c>target[j / Width · Width · depth + i·Width + j % Width]</c>; columns beyond the last are zero.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void TransposePanel(float* panel, nint columns, int lanes, nint depth, float* target)
    {
        for (nint column = 0; column < columns; column += Width, panel += Width * Width, target += Width * depth)
        {
            nint valid = nint.Min(Width, columns - column);
            if (valid < Width)
            {
                new Span<float>(target, lanes * Width).Clear();
            }

            nint j = 0;
            for (; Sse.IsSupported && lanes == Width && j <= valid - 4; j += 4)
            {
                for (int i = 0; i <= lanes - 4; i += 4)
                {
                    TransposeFour(panel + (j * Width) + i, Width, target + (i * Width) + j);
                }
            }

            for (; j < valid; j++)
            {
                for (int i = 0; i < lanes; i++)
                {
                    target[(i * Width) + j] = panel[(j * Width) + i];
                }
            }
        }
    }

    /// <summary>C (+)= rows of A, whose steps of k stand side by side, · packed panels; <paramref name="tiles"/> is room for five packed rows.</summary>
    public static void MultiplyRows(float* a, nint rowStride, nint rows, float* panels, nint panelStride, nint columns, nint depth, Target c, bool add, float* tiles)
    {
        // Rows as they stand are read as fast as packed ones.
        nint whole = rows / TileRows * TileRows;
        MultiplyStrided(a, rowStride, whole, panels, panelStride, columns, depth, c, add);
        if (rows > whole)
        {
            PackTiles(a + (whole * rowStride), rowStride, 1, rows - whole, depth, tiles);
            Multiply(tiles, rows - whole, panels, panelStride, columns, depth, c.At(whole, 0), add);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyStrided(float* a, nint rowStride, nint rows, float* panelsOf, nint panelStride, nint columns, nint depth, Target c, bool add)
    {
        nint panelBytes = panelStride * sizeof(float);
        for (nint column = 0, panel = 0; column < columns;)
        {
            int panels = c.PanelStride == Width && columns - column >= Gemm<S, V>.TilePanels * Width ? Gemm<S, V>.TilePanels : 1;
            Tile tile = new()
            {
                Depth = depth,
                AStep = rowStride,
                B = (byte*)panelsOf + (panel * panelBytes),
                BStep = Width * sizeof(float),
                PanelBytes = panelBytes,
                CStride = c.RowStride,
                StartStride = c.RowStride,
            };
            for (nint row = 0; row < rows; row += TileRows)
            {
                tile.A = a + (row * rowStride);
                tile.C = c.At(row, panel).Pointer;
                tile.Start = add ? tile.C : null;
                if (column == 0 && row + (2 * TileRows) <= rows)
                {
                    PrefetchRows(tile.A + (TileRows * rowStride), rowStride, depth);
                }

                if (panels == 2)
                {
                    Tiles<S, V, FloatLoader>.StridedR6P2(tile);
                }
                else if (columns - column >= Width)
                {
                    Tiles<S, V, FloatLoader>.StridedR6P1(tile);
                }
                else
                {
                    RunStridedEdge(tile, columns - column);
                }
            }

            panel += panels;
            column += panels * Width;
        }
    }

    /// <summary>C (+)= packed tiles · packed panels; panels stand <paramref name="panelStride"/> floats apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(float* tiles, nint rows, float* panels, nint panelStride, nint columns, nint depth, Target c, bool add)
    {
        for (nint column = 0, panel = 0; column < columns;)
        {
            int most = columns - column >= Gemm<S, V>.TilePanels * Width ? Gemm<S, V>.TilePanels : 1;
            Tile tile = new()
            {
                Depth = depth,
                B = (byte*)(panels + (panel * panelStride)),
                BStep = Width * sizeof(float),
                PanelBytes = panelStride * sizeof(float),
                CStride = c.RowStride,
                StartStride = c.RowStride,
            };
            for (nint row = 0; row < rows; row += TileRows)
            {
                nint valid = nint.Min(TileRows, rows - row);
                tile.A = tiles + (row * depth);
                tile.AStep = Gemm<S, V>.KernelRows(valid);
                RunPanels(tile, c, row, panel, most, valid, columns - column, add);
            }

            panel += most;
            column += most * Width;
        }
    }

    // Kernels of few rows take one panel at a time.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunPanels(Tile tile, in Target c, nint row, nint panel, int panels, nint rows, nint columns, bool add)
    {
        int together = panels == 2 && rows == TileRows ? 2 : 1;
        if (together == 2 && c.PanelStride != Width)
        {
            RunApart(tile, c, row, panel, add);
            return;
        }

        for (int i = 0; i < panels; i += together)
        {
            tile.C = c.At(row, panel + i).Pointer;
            tile.Start = add ? tile.C : null;
            Gemm<S, V>.RunTile<FloatLoader>(Gemm<S, V>.KernelRows(rows), together, rows, columns - (i * Width), tile);
            tile.B += tile.PanelBytes;
        }
    }

    // Two panels that stand apart in C: the kernel writes them side by side, and they are taken from there.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void RunApart(Tile tile, in Target c, nint row, nint panel, bool add)
    {
        float* buffer = stackalloc float[TileRows * 2 * Width];
        tile.C = buffer;
        tile.CStride = 2 * Width;
        tile.Start = null;
        Gemm<S, V>.RunTile<FloatLoader>(TileRows, 2, tile);
        for (int i = 0; i < 2; i++)
        {
            float* source = buffer + (i * Width);
            float* target = c.At(row, panel + i).Pointer;
            for (int r = 0; r < TileRows; r++, source += 2 * Width, target += c.RowStride)
            {
                S.Store(add ? S.Add(S.Load(source), S.Load(target)) : S.Load(source), target);
                S.Store(add ? S.Add(S.Load(source + S.Count), S.Load(target + S.Count)) : S.Load(source + S.Count), target + S.Count);
            }
        }
    }

    // Rows of a matrix end at the end of a block of k, where the processor's own prefetchers lose them.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRows(float* a, nint rowStride, nint depth)
    {
        const int line = 64 / sizeof(float);
        for (int i = 0; Sse.IsSupported && i < TileRows; i++)
        {
            for (nint k = 0; k < depth; k += line)
            {
                Sse.Prefetch1(a + (i * rowStride) + k);
            }
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void RunStridedEdge(in Tile tile, nint columns)
    {
        float* buffer = stackalloc float[TileRows * Width];
        Tile whole = tile;
        whole.C = buffer;
        whole.CStride = Width;
        whole.Start = null;
        Tiles<S, V, FloatLoader>.StridedR6P1(whole);
        for (nint i = 0; i < TileRows; i++)
        {
            float* start = tile.Start == null ? null : tile.Start + (i * tile.StartStride);
            for (nint j = 0; j < columns; j++)
            {
                tile.C[(i * tile.CStride) + j] = buffer[(i * Width) + j] + (start == null ? 0 : start[j]);
            }
        }
    }

    // Four runs of four floats, sourceStride apart, become the columns of four rows of a panel.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeFour(float* source, nint sourceStride, float* target)
    {
        Vector128<float> a = Vector128.Load(source), b = Vector128.Load(source + sourceStride);
        Vector128<float> c = Vector128.Load(source + (2 * sourceStride)), d = Vector128.Load(source + (3 * sourceStride));
        Vector128<float> lowAb = Sse.UnpackLow(a, b), lowCd = Sse.UnpackLow(c, d), highAb = Sse.UnpackHigh(a, b), highCd = Sse.UnpackHigh(c, d);
        Sse.MoveLowToHigh(lowAb, lowCd).Store(target);
        Sse.MoveHighToLow(lowCd, lowAb).Store(target + Width);
        Sse.MoveLowToHigh(highAb, highCd).Store(target + (2 * Width));
        Sse.MoveHighToLow(highCd, highAb).Store(target + (3 * Width));
    }

    // Tiles of a matrix whose rows are columns in memory: a step of k is one run of memory for all tiles.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackColumns(float* a, nint stepStride, nint tiles, nint depth, float* packed)
    {
        // Eight floats are copied where six count: the other two are written over by the next step, but at the last.
        nint far = TileRows * depth;
        for (nint k = 0; k < depth - 1; k++, a += stepStride, packed += TileRows)
        {
            float* target = packed;
            for (nint tile = 0; tile < tiles; tile++, target += far)
            {
                Vector256.Load(a + (tile * TileRows)).Store(target);
            }
        }

        for (nint tile = 0; depth > 0 && tile < tiles; tile++)
        {
            new Span<float>(a + (tile * TileRows), TileRows).CopyTo(new Span<float>(packed + (tile * far), TileRows));
        }
    }

    private static void PackAny(float* a, nint rowStride, nint stepStride, nint rows, nint depth, float* packed)
    {
        int tile = Gemm<S, V>.KernelRows(rows);
        for (nint k = 0; k < depth; k++)
        {
            for (int i = 0; i < tile; i++)
            {
                packed[(k * tile) + i] = i < rows ? a[(i * rowStride) + (k * stepStride)] : 0;
            }
        }
    }
}
