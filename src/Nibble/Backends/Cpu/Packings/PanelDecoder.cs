using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Decoding of packed codes into panels of floats, two vectors of rows at a time. Words stay in registers and move right by one
/// code per column.
/// </summary>
internal static unsafe class PanelDecoder<S, V, F, B>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IPanelForm
    where B : struct, IPanelBits
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;

    private static int Width => 2 * S.Count;

    private static int ChunkColumns => 32 / B.Bits;

    /// <summary>Codes of 2, 4 or 8 bits.</summary>
    [MethodImpl(Hot)]
    public static void Decode(in PanelSpan span, float* destination)
    {
        uint* words = span.Words;
        float* scales = span.Scales, offsets = span.Offsets, levels = span.Levels;
        nint group = nint.Min(span.FirstGroup, span.Columns);
        for (nint left = span.Columns; left > 0; left -= group, group = nint.Min(span.GroupSize, left))
        {
            V s0 = S.Load(scales), s1 = S.Load(scales + S.Count), o0 = S.Load(offsets), o1 = S.Load(offsets + S.Count);
            for (nint k = 0; k < group; k += ChunkColumns)
            {
                V a = S.LoadBits(words), b = S.LoadBits(words + S.Count);
                for (nint j = nint.Min(ChunkColumns, group - k); j > 0; j--)
                {
                    S.Store(F.Apply<S, V>(F.Code<S, V>(a, (1u << B.Bits) - 1, levels), s0, o0), destination);
                    S.Store(F.Apply<S, V>(F.Code<S, V>(b, (1u << B.Bits) - 1, levels), s1, o1), destination + S.Count);
                    a = S.ShiftBits(a, B.Bits);
                    b = S.ShiftBits(b, B.Bits);
                    destination += Width;
                }

                words += Width;
            }

            scales += span.ScaleStride;
            offsets += span.OffsetStride;
        }
    }

    /// <summary>Codes of 3 bits: see <see cref="CodePanels"/>.</summary>
    [MethodImpl(Hot)]
    public static void DecodeThree(in PanelSpan span, float* destination)
    {
        uint* words = span.Words;
        float* scales = span.Scales, offsets = span.Offsets;
        nint group = nint.Min(span.FirstGroup, span.Columns);
        for (nint left = span.Columns; left > 0; left -= group, group = nint.Min(span.GroupSize, left))
        {
            for (nint k = 0; k < group; k += 32, words += 3 * Width)
            {
                ThreeBitHalf(words, words + (2 * Width), 0, nint.Min(16, group - k), scales, offsets, destination + (k * Width));
                ThreeBitHalf(words + Width, words + (2 * Width), 4, nint.Min(16, group - k - 16), scales, offsets, destination + ((k + 16) * Width));
            }

            destination += group * Width;
            scales += span.ScaleStride;
            offsets += span.OffsetStride;
        }
    }

    [MethodImpl(Hot)]
    private static void ThreeBitHalf(uint* low, uint* high, int shift, nint count, float* scales, float* offsets, float* destination)
    {
        V s0 = S.Load(scales), s1 = S.Load(scales + S.Count), o0 = S.Load(offsets), o1 = S.Load(offsets + S.Count);
        V a = S.LoadBits(low), b = S.LoadBits(low + S.Count);
        V c = S.ShiftBits(S.LoadBits(high), shift), d = S.ShiftBits(S.LoadBits(high + S.Count), shift);
        for (nint k = 0; k < count; k++)
        {
            S.Store(F.Apply<S, V>(F.Code<S, V>(S.MergeBits(a, c), 7, null), s0, o0), destination);
            S.Store(F.Apply<S, V>(F.Code<S, V>(S.MergeBits(b, d), 7, null), s1, o1), destination + S.Count);
            (a, b, c, d) = (S.ShiftBits(a, 2), S.ShiftBits(b, 2), S.ShiftBits(c, 1), S.ShiftBits(d, 1));
            if (k % 4 == 3)
            {
                (c, d) = (S.ShiftBits(c, 4), S.ShiftBits(d, 4));
            }

            destination += Width;
        }
    }
}
