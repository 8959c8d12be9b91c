using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Bytes = System.Runtime.Intrinsics.Vector128<byte>;
using Floats = System.Runtime.Intrinsics.Vector128<float>;
using Shorts = System.Runtime.Intrinsics.Vector128<short>;
using Vector = System.Runtime.Intrinsics.Vector128;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>128 bits through the portable API: products of even and odd bytes in 16 bits.</summary>
internal readonly unsafe struct Bytes128 : IByteLanes<Bytes, Floats>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public static int Count => 4;

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
    public static Bytes Table(byte* table) => Vector.Load(table);

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
    public static Bytes Lookup(Bytes table, Bytes index) => Vector.Shuffle(table, index);

    [MethodImpl(Inline)]
    public static Bytes AddSmall(Bytes small, Bytes codes, Bytes x) =>
        (small.AsInt16() + (UnsignedEven(codes) * SignedEven(x)) + (UnsignedOdd(codes) * SignedOdd(x))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Flush(Bytes sum, Bytes small) => (sum.AsInt32() + Pairs(small.AsInt16())).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Field(Bytes words, int shift, byte mask) => And(shift == 0 ? words : Shift(words, shift), mask);

    [MethodImpl(Inline)]
    public static Bytes FlushField(Bytes sum, Bytes small, int shift) => Flush(sum, small);

    [MethodImpl(Inline)]
    public static Bytes AddShifted(Bytes a, Bytes b, int shift) => (a.AsInt32() + Vector.ShiftLeft(b.AsInt32(), shift)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddSeven(Bytes sum, Bytes codes, Bytes x) => AddByte(sum, codes, x);

    // A product of a byte and an activation fits in 16 bits (255·127), the sum of two does not.
    [MethodImpl(Inline)]
    public static Bytes AddByte(Bytes sum, Bytes codes, Bytes x) =>
        (sum.AsInt32() + Pairs(UnsignedEven(codes) * SignedEven(x)) + Pairs(UnsignedOdd(codes) * SignedOdd(x))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddWide(Bytes sum, Bytes high, Bytes low, Bytes x) =>
        (AddByte(sum, low, x).AsInt32() + Vector.ShiftLeft(AddByte(Zero, high, x).AsInt32(), 7)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes RestoreBytes(Bytes sum, Bytes n) => sum;

    [MethodImpl(Inline)]
    public static Bytes AddPairs(Bytes sum, Bytes words, Bytes x) =>
        (sum.AsInt32() + Pairs(words.AsInt16(), x.AsInt16())).AsByte();

    [MethodImpl(Inline)]
    public static Bytes SubtractProduct(Bytes sum, Floats factor, Bytes n) =>
        (sum.AsInt32() - (Vector.ConvertToInt32(factor) * n.AsInt32())).AsByte();

    [MethodImpl(Inline)]
    public static Floats ToFloat(Bytes sum) => Vector.ConvertToSingle(sum.AsInt32());

    [MethodImpl(Inline)]
    private static Shorts UnsignedEven(Bytes codes) => codes.AsInt16() & Vector.Create((short)0xff);

    [MethodImpl(Inline)]
    private static Shorts UnsignedOdd(Bytes codes) => Vector.ShiftRightLogical(codes.AsInt16(), 8);

    [MethodImpl(Inline)]
    private static Shorts SignedEven(Bytes x) => Vector.ShiftRightArithmetic(Vector.ShiftLeft(x.AsInt16(), 8), 8);

    [MethodImpl(Inline)]
    private static Shorts SignedOdd(Bytes x) => Vector.ShiftRightArithmetic(x.AsInt16(), 8);

    [MethodImpl(Inline)]
    private static Vector128<int> Pairs(Shorts values) => Sse2.IsSupported
        ? Sse2.MultiplyAddAdjacent(values, Vector.Create((short)1))
        : SignedLow(values) + SignedHigh(values);

    [MethodImpl(Inline)]
    private static Vector128<int> Pairs(Shorts a, Shorts b) => Sse2.IsSupported
        ? Sse2.MultiplyAddAdjacent(a, b)
        : (SignedLow(a) * SignedLow(b)) + (SignedHigh(a) * SignedHigh(b));

    [MethodImpl(Inline)]
    private static Vector128<int> SignedLow(Shorts a) => Vector.ShiftRightArithmetic(Vector.ShiftLeft(a.AsInt32(), 16), 16);

    [MethodImpl(Inline)]
    private static Vector128<int> SignedHigh(Shorts a) => Vector.ShiftRightArithmetic(a.AsInt32(), 16);
}
