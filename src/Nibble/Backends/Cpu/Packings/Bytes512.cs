using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Bytes = System.Runtime.Intrinsics.Vector512<byte>;
using Floats = System.Runtime.Intrinsics.Vector512<float>;
using Vector = System.Runtime.Intrinsics.Vector512;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// 512 bits with vpmaddubsw; codes of 8 bits go as even and odd bytes through vpmaddwd, since vpsignb has no 512-bit form. Without
/// AVX-512 each half is computed by 128-bit vectors, for tests.
/// </summary>
internal readonly unsafe struct Bytes512 : IByteLanes<Bytes, Floats>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public static int Count => 16;

    public static bool HasByteProducts => false;

    public static Bytes Zero => Bytes.Zero;

    [MethodImpl(Inline)]
    public static void Store(Bytes value, uint* words) => value.Store((byte*)words);

    [MethodImpl(Inline)]
    public static void Prefetch(uint* address)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(address);
        }
    }

    [MethodImpl(Inline)]
    public static Bytes Load(uint* words) => Vector.Load((byte*)words);

    [MethodImpl(Inline)]
    public static Bytes Broadcast(int bytes) => Vector.Create(bytes).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Table(byte* table)
    {
        Vector256<byte> half = Vector256.Create(Vector128.Load(table), Vector128.Load(table));
        return Vector.Create(half, half);
    }

    [MethodImpl(Inline)]
    public static Bytes And(Bytes a, byte mask) => a & Vector.Create(mask);

    [MethodImpl(Inline)]
    public static Bytes Even(Bytes bytes) => UnsignedEven(bytes).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Odd(Bytes bytes) => UnsignedOdd(bytes).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Or(Bytes a, Bytes b) => a | b;

    [MethodImpl(Inline)]
    public static Bytes Shift(Bytes a, int count) =>
        (count >= 0 ? Vector.ShiftRightLogical(a.AsUInt32(), count) : Vector.ShiftLeft(a.AsUInt32(), -count)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Lookup(Bytes table, Bytes index)
    {
        if (Avx512BW.IsSupported)
        {
            return Avx512BW.Shuffle(table, index);
        }

        Vector128<byte> entries = table.GetLower().GetLower();
        return Join(
            Bytes128.Lookup(entries, index.GetLower().GetLower()), Bytes128.Lookup(entries, index.GetLower().GetUpper()),
            Bytes128.Lookup(entries, index.GetUpper().GetLower()), Bytes128.Lookup(entries, index.GetUpper().GetUpper()));
    }

    [MethodImpl(Inline)]
    public static Bytes AddSmall(Bytes small, Bytes codes, Bytes x) => Avx512BW.IsSupported
        ? (small.AsInt16() + Avx512BW.MultiplyAddAdjacent(codes, x.AsSByte())).AsByte()
        : (small.AsInt16() + (UnsignedEven(codes) * SignedEven(x)) + (UnsignedOdd(codes) * SignedOdd(x))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Flush(Bytes sum, Bytes small) => (sum.AsInt32() + Pairs(small.AsInt16(), Vector.Create((short)1))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Field(Bytes words, int shift, byte mask) => And(shift == 0 ? words : Shift(words, shift), mask);

    [MethodImpl(Inline)]
    public static Bytes FlushField(Bytes sum, Bytes small, int shift) => Flush(sum, small);

    [MethodImpl(Inline)]
    public static Bytes AddShifted(Bytes a, Bytes b, int shift) => (a.AsInt32() + Vector.ShiftLeft(b.AsInt32(), shift)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddSeven(Bytes sum, Bytes codes, Bytes x) => Avx512BW.IsSupported
        ? Flush(sum, Avx512BW.MultiplyAddAdjacent(codes, x.AsSByte()).AsByte())
        : AddByte(sum, codes, x);

    [MethodImpl(Inline)]
    public static Bytes AddByte(Bytes sum, Bytes codes, Bytes x) =>
        (sum.AsInt32() + Pairs(UnsignedEven(codes), SignedEven(x)) + Pairs(UnsignedOdd(codes), SignedOdd(x))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddWide(Bytes sum, Bytes high, Bytes low, Bytes x)
    {
        if (!Avx512BW.IsSupported)
        {
            return (AddByte(sum, low, x).AsInt32() + Vector.ShiftLeft(AddByte(Zero, high, x).AsInt32(), 7)).AsByte();
        }

        Vector512<short> highs = Avx512BW.MultiplyAddAdjacent(high, x.AsSByte()), lows = Avx512BW.MultiplyAddAdjacent(low, x.AsSByte());
        return (Flush(sum, lows.AsByte()).AsInt32() + Pairs(highs, Vector.Create((short)128))).AsByte();
    }

    [MethodImpl(Inline)]
    public static Bytes RestoreBytes(Bytes sum, Bytes n) => sum;

    [MethodImpl(Inline)]
    public static Bytes AddPairs(Bytes sum, Bytes words, Bytes x) =>
        (sum.AsInt32() + Pairs(words.AsInt16(), x.AsInt16())).AsByte();

    [MethodImpl(Inline)]
    public static Bytes SubtractProduct(Bytes sum, Floats factor, Bytes n) =>
        (sum.AsInt32() - (Vector.ConvertToInt32Native(factor) * n.AsInt32())).AsByte();

    [MethodImpl(Inline)]
    public static Floats ToFloat(Bytes sum) => Vector.ConvertToSingle(sum.AsInt32());

    [MethodImpl(Inline)]
    private static Vector512<short> UnsignedEven(Bytes codes) => codes.AsInt16() & Vector.Create((short)0xff);

    [MethodImpl(Inline)]
    private static Vector512<short> UnsignedOdd(Bytes codes) => Vector.ShiftRightLogical(codes.AsInt16(), 8);

    [MethodImpl(Inline)]
    private static Vector512<short> SignedEven(Bytes x) => Vector.ShiftRightArithmetic(Vector.ShiftLeft(x.AsInt16(), 8), 8);

    [MethodImpl(Inline)]
    private static Vector512<short> SignedOdd(Bytes x) => Vector.ShiftRightArithmetic(x.AsInt16(), 8);

    // vpmaddwd: products of neighbours, added in 32 bits.
    [MethodImpl(Inline)]
    private static Vector512<int> Pairs(Vector512<short> a, Vector512<short> b) => Avx512BW.IsSupported
        ? Avx512BW.MultiplyAddAdjacent(a, b)
        : (SignedLow(a) * SignedLow(b)) + (Vector.ShiftRightArithmetic(a.AsInt32(), 16) * Vector.ShiftRightArithmetic(b.AsInt32(), 16));

    [MethodImpl(Inline)]
    private static Vector512<int> SignedLow(Vector512<short> a) => Vector.ShiftRightArithmetic(Vector.ShiftLeft(a.AsInt32(), 16), 16);

    [MethodImpl(Inline)]
    private static Bytes Join(Vector128<byte> a, Vector128<byte> b, Vector128<byte> c, Vector128<byte> d) =>
        Vector.Create(Vector256.Create(a, b), Vector256.Create(c, d));
}
