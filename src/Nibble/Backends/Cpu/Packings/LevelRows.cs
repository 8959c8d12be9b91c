using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// One row of x times a panel of codebook codes with AVX2. Looking up floats takes two slow permutations and a blend per vector;
/// here the four bytes of a level come from four tables of bytes, 32 codes at a time, and are interleaved: twice as fast, same bits.
/// </summary>
internal static unsafe class LevelRows
{
    private const int Depth = Gemm<Lanes1, float>.DepthBlock;

    /// <summary>Bytes of the tables that follow the 16 levels of <see cref="PanelSpan.Levels"/>.</summary>
    public const int PlaneBytes = 64;

    /// <summary>Splits 16 levels into their bytes: lowest bytes of all, then the next …</summary>
    public static void Split(float* levels)
    {
        byte* source = (byte*)levels, planes = (byte*)(levels + 16);
        for (int i = 0; i < PlaneBytes; i++)
        {
            planes[i] = source[(i % 16 * 4) + (i / 16)];
        }
    }

    /// <summary>y[16] += x · panel, in the order of <see cref="PanelRows{S, V, F, B}.Add"/>.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(in PanelSpan span, float* x, float* y)
    {
        uint* words = span.Words;
        byte* planes = (byte*)(span.Levels + 16);
        float* scales = span.Scales, tail = stackalloc float[8];
        Vector256<byte> t0 = Twice(planes), t1 = Twice(planes + 16), t2 = Twice(planes + 32), t3 = Twice(planes + 48);
        nint columns = span.Columns, groupEnd = span.FirstGroup;
        for (nint k = 0; k < columns;)
        {
            Vector256<float> c0 = default, c1 = default;
            nint blockEnd = nint.Min(columns, k + Depth);
            while (k < blockEnd)
            {
                Vector256<float> s0 = Vector256.Load(scales), s1 = Vector256.Load(scales + 8);
                for (nint end = nint.Min(groupEnd, blockEnd); k < end; k += 8, words += 16)
                {
                    float* values = columns - k >= 8 ? x + k : Tail(x + k, columns - k, tail);
                    c0 = Chunk(Vector256.Load((byte*)words), t0, t1, t2, t3, s0, values, c0);
                    c1 = Chunk(Vector256.Load((byte*)(words + 8)), t0, t1, t2, t3, s1, values, c1);
                }

                if (k >= groupEnd)
                {
                    groupEnd += span.GroupSize;
                    scales += span.ScaleStride;
                }
            }

            (c0 + Vector256.Load(y)).Store(y);
            (c1 + Vector256.Load(y + 8)).Store(y + 8);
        }
    }

    // Eight columns of eight rows. A transposition of 4 × 4 bytes first, so that the interleaving ends with one column per vector.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Chunk(
        Vector256<byte> words, Vector256<byte> t0, Vector256<byte> t1, Vector256<byte> t2, Vector256<byte> t3,
        Vector256<float> scale, float* x, Vector256<float> sum)
    {
        Vector128<byte> order = Vector128.Create((byte)0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Vector256<byte> codes = Avx2.Shuffle(words, Vector256.Create(order, order));
        Vector256<byte> even = codes & Vector256.Create((byte)15);
        Vector256<byte> odd = Vector256.ShiftRightLogical(codes.AsUInt16(), 4).AsByte() & Vector256.Create((byte)15);
        Vector256<byte> e0 = Avx2.Shuffle(t0, even), e1 = Avx2.Shuffle(t1, even), e2 = Avx2.Shuffle(t2, even), e3 = Avx2.Shuffle(t3, even);
        Vector256<byte> o0 = Avx2.Shuffle(t0, odd), o1 = Avx2.Shuffle(t1, odd), o2 = Avx2.Shuffle(t2, odd), o3 = Avx2.Shuffle(t3, odd);
        Vector256<ushort> el = Avx2.UnpackLow(e0, e1).AsUInt16(), eh = Avx2.UnpackLow(e2, e3).AsUInt16();
        Vector256<ushort> ol = Avx2.UnpackLow(o0, o1).AsUInt16(), oh = Avx2.UnpackLow(o2, o3).AsUInt16();
        sum = Add(x[0], Avx2.UnpackLow(el, eh).AsSingle(), scale, sum);
        sum = Add(x[1], Avx2.UnpackLow(ol, oh).AsSingle(), scale, sum);
        sum = Add(x[2], Avx2.UnpackHigh(el, eh).AsSingle(), scale, sum);
        sum = Add(x[3], Avx2.UnpackHigh(ol, oh).AsSingle(), scale, sum);
        el = Avx2.UnpackHigh(e0, e1).AsUInt16();
        eh = Avx2.UnpackHigh(e2, e3).AsUInt16();
        ol = Avx2.UnpackHigh(o0, o1).AsUInt16();
        oh = Avx2.UnpackHigh(o2, o3).AsUInt16();
        sum = Add(x[4], Avx2.UnpackLow(el, eh).AsSingle(), scale, sum);
        sum = Add(x[5], Avx2.UnpackLow(ol, oh).AsSingle(), scale, sum);
        sum = Add(x[6], Avx2.UnpackHigh(el, eh).AsSingle(), scale, sum);
        return Add(x[7], Avx2.UnpackHigh(ol, oh).AsSingle(), scale, sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Add(float x, Vector256<float> level, Vector256<float> scale, Vector256<float> sum) =>
        Vector256.FusedMultiplyAdd(Vector256.Create(x), level * scale, sum);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Twice(byte* table) => Vector256.Create(Vector128.Load(table), Vector128.Load(table));

    // Columns behind the last multiply 0: they leave every sum as it is.
    private static float* Tail(float* x, nint count, float* buffer)
    {
        for (nint i = 0; i < 8; i++)
        {
            buffer[i] = i < count ? x[i] : 0;
        }

        return buffer;
    }
}
