using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Bytes = System.Runtime.Intrinsics.Vector256<byte>;
using Floats = System.Runtime.Intrinsics.Vector256<float>;
using Vector = System.Runtime.Intrinsics.Vector256;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// 256 bits with vpmaddubsw, which saturates at 16 bits: small codes stay far below, planes of 7 bits just below (2·127·127), and
/// codes of 8 bits are made signed, then their sign moves to x (2·128·127 = 32512).
/// </summary>
internal readonly unsafe struct Bytes256 : IByteLanes<Bytes, Floats>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public static int Count => 8;

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
    public static Bytes Table(byte* table) => Vector.Create(Vector128.Load(table), Vector128.Load(table));

    [MethodImpl(Inline)]
    public static Bytes And(Bytes a, byte mask) => a & Vector.Create(mask);

    [MethodImpl(Inline)]
    public static Bytes Even(Bytes bytes) => (bytes.AsUInt16() & Vector.Create((ushort)0xff)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Odd(Bytes bytes) => Vector.ShiftRightLogical(bytes.AsUInt16(), 8).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Or(Bytes a, Bytes b) => a | b;

    [MethodImpl(Inline)]
    public static Bytes Shift(Bytes a, int count) =>
        (count >= 0 ? Vector.ShiftRightLogical(a.AsUInt32(), count) : Vector.ShiftLeft(a.AsUInt32(), -count)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Lookup(Bytes table, Bytes index) => Avx2.Shuffle(table, index);

    [MethodImpl(Inline)]
    public static Bytes AddSmall(Bytes small, Bytes codes, Bytes x) =>
        (small.AsInt16() + Avx2.MultiplyAddAdjacent(codes, x.AsSByte())).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Flush(Bytes sum, Bytes small) =>
        (sum.AsInt32() + Avx2.MultiplyAddAdjacent(small.AsInt16(), Vector.Create((short)1))).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Field(Bytes words, int shift, byte mask) => And(shift == 0 ? words : Shift(words, shift), mask);

    [MethodImpl(Inline)]
    public static Bytes FlushField(Bytes sum, Bytes small, int shift) => Flush(sum, small);

    [MethodImpl(Inline)]
    public static Bytes AddShifted(Bytes a, Bytes b, int shift) => (a.AsInt32() + Vector.ShiftLeft(b.AsInt32(), shift)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddSeven(Bytes sum, Bytes codes, Bytes x) => Flush(sum, Avx2.MultiplyAddAdjacent(codes, x.AsSByte()).AsByte());

    [MethodImpl(Inline)]
    public static Bytes AddByte(Bytes sum, Bytes codes, Bytes x)
    {
        Vector256<sbyte> signed = (codes ^ Vector.Create((byte)0x80)).AsSByte();
        Vector256<short> pairs = Avx2.MultiplyAddAdjacent(Avx2.Abs(signed), Avx2.Sign(x.AsSByte(), signed));
        return Flush(sum, pairs.AsByte());
    }

    [MethodImpl(Inline)]
    public static Bytes AddWide(Bytes sum, Bytes high, Bytes low, Bytes x)
    {
        Vector256<short> highs = Avx2.MultiplyAddAdjacent(high, x.AsSByte());
        sum = Flush(sum, Avx2.MultiplyAddAdjacent(low, x.AsSByte()).AsByte());
        return (sum.AsInt32() + Avx2.MultiplyAddAdjacent(highs, Vector.Create((short)128))).AsByte();
    }

    [MethodImpl(Inline)]
    public static Bytes RestoreBytes(Bytes sum, Bytes n) => (sum.AsInt32() + Vector.ShiftLeft(n.AsInt32(), 7)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddPairs(Bytes sum, Bytes words, Bytes x) =>
        (sum.AsInt32() + Avx2.MultiplyAddAdjacent(words.AsInt16(), x.AsInt16())).AsByte();

    [MethodImpl(Inline)]
    public static Bytes SubtractProduct(Bytes sum, Floats factor, Bytes n) =>
        (sum.AsInt32() - (Vector.ConvertToInt32Native(factor) * n.AsInt32())).AsByte();

    [MethodImpl(Inline)]
    public static Floats ToFloat(Bytes sum) => Vector.ConvertToSingle(sum.AsInt32());
}
