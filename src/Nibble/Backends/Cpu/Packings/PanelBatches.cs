using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Four rows of x times one packed panel: every weight is decoded once, in a register, for all rows. Sums run as in
/// <see cref="PanelRows{S, V, F, B}"/>, so a row has the same bits alone or in a batch.
/// </summary>
internal static unsafe class PanelBatches<S, V, F, B>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IPanelForm
    where B : struct, IPanelBits
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;
    private const int Depth = Gemm<Lanes1, float>.DepthBlock;

    /// <summary>y[row·stride + two vectors] += x[row] · panel, codes of 2, 4 or 8 bits.</summary>
    [MethodImpl(Hot)]
    public static void Add(in PanelSpan span, in RowPointers x, float* y, nint stride)
    {
        uint* words = span.Words;
        float* s = span.Scales, o = span.Offsets, levels = span.Levels, x0 = x.Row0, x1 = x.Row1, x2 = x.Row2, x3 = x.Row3;
        nint columns = span.Columns, groupEnd = span.FirstGroup;
        uint mask = (1u << B.Bits) - 1;
        for (nint k = 0; k < columns;)
        {
            V c00 = S.Zero, c01 = S.Zero, c10 = S.Zero, c11 = S.Zero, c20 = S.Zero, c21 = S.Zero, c30 = S.Zero, c31 = S.Zero;
            nint blockEnd = nint.Min(columns, k + Depth);
            while (k < blockEnd)
            {
                nint end = nint.Min(groupEnd, blockEnd);
                for (; k < end; words += 2 * S.Count)
                {
                    V a = S.LoadBits(words), b = S.LoadBits(words + S.Count);
                    for (nint chunkEnd = nint.Min(end, k + (32 / B.Bits)); k < chunkEnd; k++)
                    {
                        V w0 = F.Apply<S, V>(F.Code<S, V>(a, mask, levels), S.Load(s), S.Load(o));
                        V w1 = F.Apply<S, V>(F.Code<S, V>(b, mask, levels), S.Load(s + S.Count), S.Load(o + S.Count));
                        (a, b) = (S.ShiftBits(a, B.Bits), S.ShiftBits(b, B.Bits));
                        V value = S.Set(x0[k]);
                        (c00, c01) = (S.MultiplyAdd(value, w0, c00), S.MultiplyAdd(value, w1, c01));
                        value = S.Set(x1[k]);
                        (c10, c11) = (S.MultiplyAdd(value, w0, c10), S.MultiplyAdd(value, w1, c11));
                        value = S.Set(x2[k]);
                        (c20, c21) = (S.MultiplyAdd(value, w0, c20), S.MultiplyAdd(value, w1, c21));
                        value = S.Set(x3[k]);
                        (c30, c31) = (S.MultiplyAdd(value, w0, c30), S.MultiplyAdd(value, w1, c31));
                    }
                }

                if (k == groupEnd)
                {
                    groupEnd += span.GroupSize;
                    s += span.ScaleStride;
                    o += span.OffsetStride;
                }
            }

            Store(y, c00, c01);
            Store(y + stride, c10, c11);
            Store(y + (2 * stride), c20, c21);
            Store(y + (3 * stride), c30, c31);
        }
    }

    /// <summary>The same for codes of 3 bits: see <see cref="PanelRows{S, V, F, B}.AddThree"/>.</summary>
    [MethodImpl(Hot)]
    public static void AddThree(in PanelSpan span, in RowPointers x, float* y, nint stride)
    {
        uint* words = span.Words;
        float* s = span.Scales, o = span.Offsets, x0 = x.Row0, x1 = x.Row1, x2 = x.Row2, x3 = x.Row3;
        nint columns = span.Columns, groupEnd = span.FirstGroup;
        for (nint k = 0; k < columns;)
        {
            V c00 = S.Zero, c01 = S.Zero, c10 = S.Zero, c11 = S.Zero, c20 = S.Zero, c21 = S.Zero, c30 = S.Zero, c31 = S.Zero;
            nint blockEnd = nint.Min(columns, k + Depth);
            while (k < blockEnd)
            {
                nint end = nint.Min(groupEnd, blockEnd);
                for (; k < end; words += 2 * S.Count)
                {
                    nint half = k / 16 % 2;
                    uint* high = words + ((2 - half) * 2 * S.Count);
                    V a = S.LoadBits(words), b = S.LoadBits(words + S.Count), h0 = S.LoadBits(high), h1 = S.LoadBits(high + S.Count);
                    if (half != 0)
                    {
                        (h0, h1) = (S.ShiftBits(h0, 4), S.ShiftBits(h1, 4));
                        words += 2 * S.Count;
                    }

                    for (nint chunkEnd = nint.Min(end, k + 16); k < chunkEnd; (h0, h1) = (S.ShiftBits(h0, 4), S.ShiftBits(h1, 4)))
                    {
                        for (nint quad = nint.Min(chunkEnd, k + 4); k < quad; k++)
                        {
                            V w0 = F.Apply<S, V>(F.Code<S, V>(S.MergeBits(a, h0), 7, null), S.Load(s), S.Load(o));
                            V w1 = F.Apply<S, V>(F.Code<S, V>(S.MergeBits(b, h1), 7, null), S.Load(s + S.Count), S.Load(o + S.Count));
                            (a, b, h0, h1) = (S.ShiftBits(a, 2), S.ShiftBits(b, 2), S.ShiftBits(h0, 1), S.ShiftBits(h1, 1));
                            V value = S.Set(x0[k]);
                            (c00, c01) = (S.MultiplyAdd(value, w0, c00), S.MultiplyAdd(value, w1, c01));
                            value = S.Set(x1[k]);
                            (c10, c11) = (S.MultiplyAdd(value, w0, c10), S.MultiplyAdd(value, w1, c11));
                            value = S.Set(x2[k]);
                            (c20, c21) = (S.MultiplyAdd(value, w0, c20), S.MultiplyAdd(value, w1, c21));
                            value = S.Set(x3[k]);
                            (c30, c31) = (S.MultiplyAdd(value, w0, c30), S.MultiplyAdd(value, w1, c31));
                        }
                    }
                }

                if (k == groupEnd)
                {
                    groupEnd += span.GroupSize;
                    s += span.ScaleStride;
                    o += span.OffsetStride;
                }
            }

            Store(y, c00, c01);
            Store(y + stride, c10, c11);
            Store(y + (2 * stride), c20, c21);
            Store(y + (3 * stride), c30, c31);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* y, V first, V second)
    {
        S.Store(S.Add(first, S.Load(y)), y);
        S.Store(S.Add(second, S.Load(y + S.Count)), y + S.Count);
    }
}

/// <summary>Four rows of x; missing ones repeat the last.</summary>
internal unsafe struct RowPointers
{
    public float* Row0, Row1, Row2, Row3;

    /// <summary>Rows <paramref name="x"/>, x + columns …, of which <paramref name="count"/> exist.</summary>
    public static RowPointers Of(float* x, nint columns, int count) => new()
    {
        Row0 = x,
        Row1 = x + (Math.Min(1, count - 1) * columns),
        Row2 = x + (Math.Min(2, count - 1) * columns),
        Row3 = x + (Math.Min(3, count - 1) * columns),
    };
}
