using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// Activations as the inner kernels read them: blocks of k, in each the tiles of up to 6 rows one after the other, in a tile the
/// rows interleaved: <c>tile[k·R + i]</c>. So a block of rows is one stream.
/// </summary>
internal unsafe struct PackedRows
{
    private const int TileRows = 6;
    private const int DepthBlock = 256;

    /// <summary><see cref="PaddedRows"/> × <see cref="Depth"/> floats.</summary>
    public float* Data;
    public nint Rows, Depth;

    /// <summary>Rows, with room for the missing rows of the last tile.</summary>
    public static nint PaddedRows(nint rows) => rows + TileRows - 1;

    /// <summary>The tile that starts with <paramref name="row"/>, in the block of k that starts at <paramref name="k"/>.</summary>
    public readonly float* Tile(nint row, nint k, nint steps) => Data + (k * PaddedRows(Rows)) + (row * steps);

    /// <summary>Packs the tile of rows that starts with <paramref name="row"/>, all blocks of k; <paramref name="x"/> is <c>[Rows, Depth]</c>.</summary>
    public readonly void Pack(float* x, nint row)
    {
        nint rows = nint.Min(TileRows, Rows - row);
        for (nint k = 0; k < Depth; k += DepthBlock)
        {
            nint steps = nint.Min(DepthBlock, Depth - k);
            PackTile(x + (row * Depth) + k, Depth, rows, steps, Tile(row, k, steps));
        }
    }

    /// <summary>Interleaves up to 6 rows, <paramref name="stride"/> apart; rows that the kernel has beyond them are zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackTile(float* x, nint stride, nint rows, nint steps, float* tile)
    {
        if (rows == TileRows)
        {
            PackSix(x, stride, steps, tile);
            return;
        }

        int kernelRows = Gemm<Lanes1, float>.KernelRows(rows);
        for (int i = 0; i < kernelRows; i++)
        {
            float* source = x + (i * stride);
            for (nint k = 0; k < steps; k++)
            {
                tile[(k * kernelRows) + i] = i < rows ? source[k] : 0;
            }
        }
    }

    // Transposes 4 × 4: four steps of k of the first four rows.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PackFour(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d, float* tile)
    {
        Vector128<float> lowAb = Sse.UnpackLow(a, b), lowCd = Sse.UnpackLow(c, d), highAb = Sse.UnpackHigh(a, b), highCd = Sse.UnpackHigh(c, d);
        Sse.MoveLowToHigh(lowAb, lowCd).Store(tile);
        Sse.MoveHighToLow(lowCd, lowAb).Store(tile + TileRows);
        Sse.MoveLowToHigh(highAb, highCd).Store(tile + (2 * TileRows));
        Sse.MoveHighToLow(highCd, highAb).Store(tile + (3 * TileRows));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackSix(float* x, nint stride, nint steps, float* tile)
    {
        float* r0 = x, r1 = r0 + stride, r2 = r1 + stride, r3 = r2 + stride, r4 = r3 + stride, r5 = r4 + stride;
        nint k = 0;
        for (; Sse.IsSupported && k <= steps - 4; k += 4, tile += 4 * TileRows)
        {
            PackFour(Vector128.Load(r0 + k), Vector128.Load(r1 + k), Vector128.Load(r2 + k), Vector128.Load(r3 + k), tile);
            Vector128<float> e = Vector128.Load(r4 + k), f = Vector128.Load(r5 + k);
            Vector128<double> low = Sse.UnpackLow(e, f).AsDouble(), high = Sse.UnpackHigh(e, f).AsDouble();
            *(double*)(tile + 4) = low[0];
            *(double*)(tile + 10) = low[1];
            *(double*)(tile + 16) = high[0];
            *(double*)(tile + 22) = high[1];
        }

        for (; k < steps; k++, tile += TileRows)
        {
            tile[0] = r0[k];
            tile[1] = r1[k];
            tile[2] = r2[k];
            tile[3] = r3[k];
            tile[4] = r4[k];
            tile[5] = r5[k];
        }
    }
}
