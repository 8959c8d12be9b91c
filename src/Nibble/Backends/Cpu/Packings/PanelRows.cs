using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// One row of x times packed panels, decoded in registers. Sums run as in the tiles of the dense product: a chain of multiply-adds
/// over each block of <see cref="Depth"/> columns, then added to what is there. Two panels at a time hide the chains' latency.
/// </summary>
internal static unsafe class PanelRows<S, V, F, B>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IPanelForm
    where B : struct, IPanelBits
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;
    private const int Depth = Gemm<Lanes1, float>.DepthBlock;

    /// <summary>y[four vectors] += x · two panels, codes of 2, 4 or 8 bits.</summary>
    [MethodImpl(Hot)]
    public static void Add(in PanelSpan first, in PanelSpan second, float* x, float* y)
    {
        uint* a = first.Words, b = second.Words;
        float* sa = first.Scales, oa = first.Offsets, sb = second.Scales, ob = second.Offsets, levels = first.Levels;
        nint columns = first.Columns, groupEnd = first.FirstGroup;
        int bits = B.Bits;
        uint mask = (1u << bits) - 1;
        for (nint k = 0; k < columns;)
        {
            V c0 = S.Zero, c1 = S.Zero, c2 = S.Zero, c3 = S.Zero;
            nint blockEnd = nint.Min(columns, k + Depth);
            while (k < blockEnd)
            {
                nint end = nint.Min(groupEnd, blockEnd);
                while (k < end)
                {
                    V w0 = S.LoadBits(a), w1 = S.LoadBits(a + S.Count), w2 = S.LoadBits(b), w3 = S.LoadBits(b + S.Count);
                    for (nint chunkEnd = nint.Min(end, k + (32 / bits)); k < chunkEnd; k++)
                    {
                        V value = S.Set(x[k]);
                        c0 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(w0, mask, levels), S.Load(sa), S.Load(oa)), c0);
                        c1 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(w1, mask, levels), S.Load(sa + S.Count), S.Load(oa + S.Count)), c1);
                        c2 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(w2, mask, levels), S.Load(sb), S.Load(ob)), c2);
                        c3 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(w3, mask, levels), S.Load(sb + S.Count), S.Load(ob + S.Count)), c3);
                        (w0, w1) = (S.ShiftBits(w0, B.Bits), S.ShiftBits(w1, B.Bits));
                        (w2, w3) = (S.ShiftBits(w2, B.Bits), S.ShiftBits(w3, B.Bits));
                    }

                    a += 2 * S.Count;
                    b += 2 * S.Count;
                }

                if (k == groupEnd)
                {
                    groupEnd += first.GroupSize;
                    sa += first.ScaleStride;
                    sb += first.ScaleStride;
                    oa += first.OffsetStride;
                    ob += first.OffsetStride;
                }
            }

            Store(y, c0, c1);
            Store(y + (2 * S.Count), c2, c3);
        }
    }

    /// <summary>y[two vectors] += x · a panel of 3 bits, whose decoding alone is as long as the chains.</summary>
    [MethodImpl(Hot)]
    public static void AddThree(in PanelSpan span, float* x, float* y)
    {
        uint* words = span.Words;
        float* s = span.Scales, o = span.Offsets;
        nint columns = span.Columns, groupEnd = span.FirstGroup;
        for (nint k = 0; k < columns;)
        {
            V c0 = S.Zero, c1 = S.Zero;
            nint blockEnd = nint.Min(columns, k + Depth);
            while (k < blockEnd)
            {
                nint end = nint.Min(groupEnd, blockEnd);
                V s0 = S.Load(s), s1 = S.Load(s + S.Count), o0 = S.Load(o), o1 = S.Load(o + S.Count);
                for (; k < end; words += 2 * S.Count)
                {
                    // Words: low pairs of 16 columns, of the next 16, high bits of all 32 (see CodePanels).
                    nint half = k / 16 % 2;
                    uint* high = words + ((2 - half) * 2 * S.Count);
                    V a = S.LoadBits(words), b = S.LoadBits(words + S.Count);
                    V h0 = S.LoadBits(high), h1 = S.LoadBits(high + S.Count);
                    if (half != 0)
                    {
                        (h0, h1) = (S.ShiftBits(h0, 4), S.ShiftBits(h1, 4));
                        words += 2 * S.Count;
                    }

                    for (nint chunkEnd = nint.Min(end, k + 16); k < chunkEnd; (h0, h1) = (S.ShiftBits(h0, 4), S.ShiftBits(h1, 4)))
                    {
                        for (nint quad = nint.Min(chunkEnd, k + 4); k < quad; k++)
                        {
                            V value = S.Set(x[k]);
                            c0 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(S.MergeBits(a, h0), 7, null), s0, o0), c0);
                            c1 = S.MultiplyAdd(value, F.Apply<S, V>(F.Code<S, V>(S.MergeBits(b, h1), 7, null), s1, o1), c1);
                            (a, b, h0, h1) = (S.ShiftBits(a, 2), S.ShiftBits(b, 2), S.ShiftBits(h0, 1), S.ShiftBits(h1, 1));
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

            Store(y, c0, c1);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* y, V first, V second)
    {
        S.Store(S.Add(first, S.Load(y)), y);
        S.Store(S.Add(second, S.Load(y + S.Count)), y + S.Count);
    }
}
