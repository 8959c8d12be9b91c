using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Rows of activations as int8: q = round to even(x · 127/absmax), x ≈ q · absmax/127 (absmax of the row). Bytes stand in the order
/// in which the packed codes come out of their words: natural for 8 bits; for 4, 3 and 2 bits a word gives every second or every
/// fourth column at a time.
/// </summary>
internal unsafe struct Int8Activations
{
    // Below it 127/absmax overflows; such a row is zero next to anything.
    private const float Smallest = 1e-35f;

    public float* X;
    public nint Rows, Columns;

    /// <summary>Bytes of a row: columns up to a multiple of <see cref="CodePanels.Alignment"/>, zeros behind them.</summary>
    public nint Stride;

    /// <summary>Columns of a group, a multiple of 32 unless there is only one.</summary>
    public nint GroupSize, Groups;
    public int Bits;

    /// <summary>Multiplied into every scale.</summary>
    public float Factor;
    public sbyte* Values;
    public int* Sums;
    public float* Scales;

    /// <summary>Whether the values are wanted as 16-bit numbers too, and where they go: per four bytes the first and third, then the others.</summary>
    public bool IsWide;
    public int* Wide;

    /// <summary>Bytes of scratch memory that the results need.</summary>
    public readonly nint ByteLength => Rows * (Stride + (sizeof(int) * Groups) + sizeof(float) + (IsWide ? 2 * Stride : 0));

    /// <summary>Where the results go.</summary>
    public void Place(void* memory)
    {
        Values = (sbyte*)memory;
        Sums = (int*)(Values + (Rows * Stride));
        Scales = (float*)(Sums + (Rows * Groups));
        Wide = IsWide ? (int*)(Scales + Rows) : null;
    }

    /// <summary>Quantizes a row. A row with NaN or infinity gets the scale NaN: so does everything computed from it.</summary>
    public readonly void Quantize(nint row)
    {
        float* x = X + (row * Columns);
        Quantize(row, x, Largest(x, Columns));
    }

    /// <summary>Quantizes a row whose absmax the caller knows; <paramref name="x"/> are its values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Quantize(nint row, float* x, float absmax)
    {
        bool isUsable = absmax >= Smallest && absmax <= float.MaxValue;
        Scales[row] = float.IsFinite(absmax) ? absmax / 127 * Factor : float.NaN;
        sbyte* values = Values + (row * Stride);
        int* sums = Sums + (row * Groups);
        float inverse = isUsable ? 127 / absmax : 0;
        if (Avx512F.IsSupported)
        {
            Round512(x, isUsable ? Columns : 0, inverse, values, sums);
        }
        else
        {
            Round128(x, isUsable ? Columns : 0, inverse, values, sums);
        }

        if (IsWide)
        {
            Widen((int*)values, Stride / 4, Wide + (row * (Stride / 2)));
        }
    }

    /// <summary>The first <paramref name="columns"/> numbers times <paramref name="inverse"/>, to nearest even; zeros behind them; sums of groups.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Round128(float* x, nint columns, float inverse, sbyte* values, int* sums)
    {
        Vector128<sbyte> order = Order(Bits);
        Vector128<int> sum = default;
        nint group = 0, groupEnd = Groups == 1 ? Stride : GroupSize;
        float* tail = stackalloc float[16];
        for (nint k = 0; k < Stride; k += 16)
        {
            float* source = k <= columns - 16 ? x + k : Tail(x, k, columns, tail);
            Vector128<int> a = Round(source, inverse), b = Round(source + 4, inverse), c = Round(source + 8, inverse), d = Round(source + 12, inverse);
            sum += a + b + c + d;
            Vector128<sbyte> bytes = Vector128.Narrow(Vector128.Narrow(a, b), Vector128.Narrow(c, d));
            Vector128.Shuffle(bytes, order).Store(values + k);
            if (k + 16 == groupEnd || k + 16 == Stride)
            {
                sums[group++] = Vector128.Sum(sum);
                sum = default;
                groupEnd += GroupSize;
            }
        }
    }

    /// <summary>The same: this instruction's conversion rounds to nearest even too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Round512(float* x, nint columns, float inverse, sbyte* values, int* sums)
    {
        Vector128<sbyte> order = Order(Bits);
        Vector512<float> factor = Vector512.Create(inverse);
        float* tail = stackalloc float[16];
        nint k = 0;
        for (nint group = 0; group < Groups; group++)
        {
            Vector512<int> sum = default;
            nint end = group == Groups - 1 ? Stride : k + GroupSize;
            for (; k < end; k += 16)
            {
                float* source = k <= columns - 16 ? x + k : Tail(x, k, columns, tail);
                Vector512<int> rounded = Avx512F.ConvertToVector512Int32(Vector512.Load(source) * factor);
                sum += rounded;
                Vector128.Shuffle(Avx512F.ConvertToVector128SByte(rounded), order).Store(values + k);
            }

            sums[group] = Vector512.Sum(sum);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Widen(int* quads, nint count, int* target)
    {
        for (nint i = 0; i < count; i++)
        {
            int quad = quads[i];
            target[2 * i] = ((sbyte)quad & 0xffff) | ((sbyte)(quad >> 16) << 16);
            target[(2 * i) + 1] = ((sbyte)(quad >> 8) & 0xffff) | (quad >> 24 << 16);
        }
    }

    /// <summary>Largest magnitude; NaN if there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Largest(float* x, nint count)
    {
        // As integers, magnitudes keep their order, and NaN is above infinity.
        Vector128<int> mask = Vector128.Create(0x7fffffff), m0 = default, m1 = default;
        nint k = 0;
        if (Avx512F.IsSupported)
        {
            Vector512<int> wide = default;
            for (; k <= count - 16; k += 16)
            {
                wide = Vector512.Max(wide, Vector512.Load((int*)x + k) & Vector512.Create(0x7fffffff));
            }

            Vector256<int> half = Vector256.Max(wide.GetLower(), wide.GetUpper());
            m0 = Vector128.Max(half.GetLower(), half.GetUpper());
        }

        for (; k <= count - 8; k += 8)
        {
            m0 = Vector128.Max(m0, Vector128.Load((int*)x + k) & mask);
            m1 = Vector128.Max(m1, Vector128.Load((int*)x + k + 4) & mask);
        }

        m0 = Vector128.Max(m0, m1);
        int largest = Math.Max(Math.Max(m0[0], m0[1]), Math.Max(m0[2], m0[3]));
        for (; k < count; k++)
        {
            largest = Math.Max(largest, ((int*)x)[k] & 0x7fffffff);
        }

        return BitConverter.Int32BitsToSingle(largest);
    }

    // Byte i of 16 is the column that byte i of the planes of a word (4 bits), or of a half of 16 columns (3 and 2 bits), holds.
    private static Vector128<sbyte> Order(int bits) => bits switch
    {
        8 => Vector128.Create(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        4 => Vector128.Create(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15),
        _ => Vector128.Create(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
    };

    private static float* Tail(float* x, nint start, nint count, float* buffer)
    {
        for (nint i = 0; i < 16; i++)
        {
            buffer[i] = start + i < count ? x[start + i] : 0;
        }

        return buffer;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> Round(float* source, float inverse) =>
        Vector128.ConvertToInt32(Vector128.Round(Vector128.Load(source) * Vector128.Create(inverse)));
}
