using System.Runtime.CompilerServices;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// How a row of a head's keys or values stands in the cache. Forms other than F32 are private to the vector they were written with; their
/// rows become floats again block by block, in memory that stays in the processor's caches, so every form shares the arithmetic.
/// </summary>
internal unsafe interface IKvFormat
{
    /// <summary>True if rows are floats already.</summary>
    static abstract bool IsFloat { get; }

    /// <summary>Bytes of a row.</summary>
    static abstract nint RowBytes(nint dim);

    /// <summary>Writes a row.</summary>
    static abstract void Store<S, V>(float* row, byte* target, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged;

    /// <summary>Reads a row.</summary>
    static abstract void Load<S, V>(byte* source, float* row, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged;
}

/// <summary>Blocks of rows as floats.</summary>
internal static unsafe class KvRows<S, V, F>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IKvFormat
{
    /// <summary>Floats of the memory that <see cref="Load"/> needs for a block.</summary>
    public static nint Scratch(nint rows, nint dim) => F.IsFloat ? 0 : rows * dim;

    /// <summary>Some rows as floats: where they are, or in <paramref name="scratch"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float* Load(byte* rows, nint count, nint dim, float* scratch)
    {
        if (F.IsFloat)
        {
            return (float*)rows;
        }

        nint bytes = F.RowBytes(dim);
        for (nint i = 0; i < count; i++)
        {
            F.Load<S, V>(rows + (i * bytes), scratch + (i * dim), dim);
        }

        return scratch;
    }
}

/// <summary>F32 as it is.</summary>
internal readonly unsafe struct FloatRows : IKvFormat
{
    public static bool IsFloat => true;

    public static nint RowBytes(nint dim) => dim * sizeof(float);

    public static void Store<S, V>(float* row, byte* target, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged => new Span<float>(row, (int)dim).CopyTo(new Span<float>(target, (int)dim));

    public static void Load<S, V>(byte* source, float* row, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged => new Span<float>(source, (int)dim).CopyTo(new Span<float>(row, (int)dim));
}

/// <summary>Half precision, to nearest even; neighbours hold elements j and j + Count of a panel, see <see cref="PanelLayout"/>.</summary>
internal readonly unsafe struct HalfRows : IKvFormat
{
    public static bool IsFloat => false;

    public static nint RowBytes(nint dim) => dim * sizeof(ushort);

    public static void Store<S, V>(float* row, byte* target, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        ushort* halves = (ushort*)target;
        nint whole = dim / (2 * S.Count) * (2 * S.Count);
        for (nint i = 0; i < dim; i++)
        {
            int lane = (int)(i % (2 * S.Count));
            nint place = i < whole ? i - lane + PanelLayout.PairIndex(lane, S.Count) : i;
            halves[place] = BitConverter.HalfToUInt16Bits((Half)row[i]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<S, V>(byte* source, float* row, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        ushort* halves = (ushort*)source;
        nint i = 0;
        for (; i <= dim - (2 * S.Count); i += 2 * S.Count)
        {
            S.Store(S.HalfFirst(halves + i), row + i);
            S.Store(S.HalfSecond(halves + i), row + i + S.Count);
        }

        for (; i < dim; i++)
        {
            row[i] = (float)BitConverter.UInt16BitsToHalf(halves[i]);
        }
    }
}

/// <summary>BF16, to nearest even, in the order of <see cref="HalfRows"/>.</summary>
internal readonly unsafe struct BFloat16Rows : IKvFormat
{
    public static bool IsFloat => false;

    public static nint RowBytes(nint dim) => dim * sizeof(ushort);

    public static void Store<S, V>(float* row, byte* target, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        ushort* bits = (ushort*)target;
        nint whole = dim / (2 * S.Count) * (2 * S.Count);
        for (nint i = 0; i < dim; i++)
        {
            int lane = (int)(i % (2 * S.Count));
            nint place = i < whole ? i - lane + PanelLayout.PairIndex(lane, S.Count) : i;
            bits[place] = TensorConvert.F32ToBF16(row[i]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<S, V>(byte* source, float* row, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        ushort* bits = (ushort*)source;
        nint i = 0;
        for (; i <= dim - (2 * S.Count); i += 2 * S.Count)
        {
            S.Store(S.BFloat16First(bits + i), row + i);
            S.Store(S.BFloat16Second(bits + i), row + i + S.Count);
        }

        for (; i < dim; i++)
        {
            row[i] = BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
        }
    }
}

/// <summary>
/// 8 bits with one F32 scale a row (a token's key or value of one head), which stands before the codes: x ≈ scale·(code − 128), scale =
/// largest magnitude / 127, so at most half a scale off. A word holds elements j, j + Count, j + 2·Count and j + 3·Count. A row with NaN
/// or infinity gives NaN.
/// </summary>
internal readonly unsafe struct ByteRows : IKvFormat
{
    private const int Offset = 128;

    public static bool IsFloat => false;

    public static nint RowBytes(nint dim) => dim + sizeof(float);

    public static void Store<S, V>(float* row, byte* target, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        float largest = 0;
        for (nint i = 0; i < dim; i++)
        {
            // A NaN stays: Math.Max hands it on.
            largest = MathF.Max(largest, MathF.Abs(row[i]));
        }

        float scale = float.IsFinite(largest) ? largest / 127 : float.NaN;
        float inverse = scale > 0 ? 127 / largest : 0;
        inverse = float.IsFinite(inverse) ? inverse : 0;
        *(float*)target = scale;
        byte* codes = target + sizeof(float);
        nint chunk = 4 * S.Count, whole = dim / chunk * chunk;
        for (nint i = 0; i < dim; i++)
        {
            nint lane = i % chunk;
            nint place = i < whole ? i - lane + (4 * (lane % S.Count)) + (lane / S.Count) : i;
            codes[place] = (byte)(Offset + (int)MathF.Round(row[i] * inverse));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<S, V>(byte* source, float* row, nint dim)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        float scale = *(float*)source;
        byte* codes = source + sizeof(float);
        V factor = S.Set(scale), offset = S.Set(Offset);
        nint i = 0;
        for (; i <= dim - (4 * S.Count); i += 4 * S.Count)
        {
            V bits = S.LoadBits((uint*)(codes + i));
            S.Store(S.Multiply(S.Subtract(S.Field(bits, 0xff), offset), factor), row + i);
            S.Store(S.Multiply(S.Subtract(S.Field(S.ShiftBits(bits, 8), 0xff), offset), factor), row + i + S.Count);
            S.Store(S.Multiply(S.Subtract(S.Field(S.ShiftBits(bits, 16), 0xff), offset), factor), row + i + (2 * S.Count));
            S.Store(S.Multiply(S.Subtract(S.Field(S.ShiftBits(bits, 24), 0xff), offset), factor), row + i + (3 * S.Count));
        }

        for (; i < dim; i++)
        {
            row[i] = (codes[i] - Offset) * scale;
        }
    }
}
