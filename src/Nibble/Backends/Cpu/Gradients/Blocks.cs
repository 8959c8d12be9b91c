using System.Runtime.CompilerServices;
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

    /// <summary>Floats that <see cref="PackPanels"/> writes.</summary>
    public static nint PanelFloats(nint columns, nint depth) => Panels(columns) * Width * depth;

    /// <summary>Interleaves rows of A: element (i, k) is <c>a[i·rowStride + k·stepStride]</c>; tile t stands at <c>packed + 6·t·depth</c>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackTiles(float* a, nint rowStride, nint stepStride, nint rows, nint depth, float* packed)
    {
        for (nint row = 0; row < rows; row += TileRows, packed += TileRows * depth, a += TileRows * rowStride)
        {
            nint valid = nint.Min(TileRows, rows - row);
            if (stepStride == 1)
            {
                PackedRows.PackTile(a, rowStride, valid, depth, packed);
            }
            else if (rowStride == 1 && valid == TileRows)
            {
                PackSixColumns(a, stepStride, depth, packed);
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackPanels(float* b, nint stepStride, nint columnStride, nint depth, nint columns, float* packed)
    {
        for (nint column = 0; column < columns; column += Width, packed += Width * depth, b += Width * columnStride)
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

            for (nint k = 0; k < depth; k++)
            {
                for (nint j = 0; j < valid; j++)
                {
                    packed[(k * Width) + j] = b[(k * stepStride) + (j * columnStride)];
                }
            }
        }
    }

    /// <summary>C (+)= packed tiles · packed panels; panels stand <paramref name="panelStride"/> floats apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(float* tiles, nint rows, float* panels, nint panelStride, nint columns, nint depth, Target c, bool add)
    {
        for (nint column = 0, panel = 0; column < columns; column += Width, panel++)
        {
            Tile tile = new()
            {
                Depth = depth,
                B = (byte*)(panels + (panel * panelStride)),
                BStep = Width * sizeof(float),
                CStride = c.RowStride,
                StartStride = c.RowStride,
            };
            for (nint row = 0; row < rows; row += TileRows)
            {
                nint valid = nint.Min(TileRows, rows - row);
                tile.A = tiles + (row * depth);
                tile.AStep = Gemm<S, V>.KernelRows(valid);
                tile.C = c.At(row, panel).Pointer;
                tile.Start = add ? tile.C : null;
                Gemm<S, V>.RunTile<FloatLoader>(Gemm<S, V>.KernelRows(valid), 1, valid, columns - column, tile);
            }
        }
    }

    private static void PackSixColumns(float* a, nint stepStride, nint depth, float* packed)
    {
        for (nint k = 0; k < depth; k++, packed += TileRows, a += stepStride)
        {
            *(ulong*)packed = *(ulong*)a;
            *(ulong*)(packed + 2) = *(ulong*)(a + 2);
            *(ulong*)(packed + 4) = *(ulong*)(a + 4);
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
