using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Bytes = System.Runtime.Intrinsics.Vector256<byte>;
using Floats = System.Runtime.Intrinsics.Vector256<float>;
using Vector = System.Runtime.Intrinsics.Vector256;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>256 bits with vpdpbusd: four products of unsigned and signed bytes straight into 32 bits. .NET has no 512-bit form of it.</summary>
internal readonly unsafe struct BytesVnni : IByteLanes<Bytes, Floats>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public static int Count => 8;

    public static bool HasByteProducts => true;

    public static Bytes Zero => Bytes.Zero;

    [MethodImpl(Inline)]
    public static void Store(Bytes value, uint* words) => Bytes256.Store(value, words);

    [MethodImpl(Inline)]
    public static void Prefetch(uint* address) => Bytes256.Prefetch(address);

    [MethodImpl(Inline)]
    public static Bytes Load(uint* words) => Bytes256.Load(words);

    [MethodImpl(Inline)]
    public static Bytes Broadcast(int bytes) => Bytes256.Broadcast(bytes);

    [MethodImpl(Inline)]
    public static Bytes Table(byte* table) => Bytes256.Table(table);

    [MethodImpl(Inline)]
    public static Bytes And(Bytes a, byte mask) => Bytes256.And(a, mask);

    [MethodImpl(Inline)]
    public static Bytes Even(Bytes bytes) => Bytes256.Even(bytes);

    [MethodImpl(Inline)]
    public static Bytes Odd(Bytes bytes) => Bytes256.Odd(bytes);

    [MethodImpl(Inline)]
    public static Bytes Or(Bytes a, Bytes b) => a | b;

    [MethodImpl(Inline)]
    public static Bytes Shift(Bytes a, int count) => Bytes256.Shift(a, count);

    [MethodImpl(Inline)]
    public static Bytes Lookup(Bytes table, Bytes index) => Bytes256.Lookup(table, index);

    [MethodImpl(Inline)]
    public static Bytes AddSmall(Bytes small, Bytes codes, Bytes x) => AddByte(small, codes, x);

    [MethodImpl(Inline)]
    public static Bytes Flush(Bytes sum, Bytes small) => (sum.AsInt32() + small.AsInt32()).AsByte();

    // A multiple of 2^shift: nothing is lost.
    [MethodImpl(Inline)]
    public static Bytes FlushField(Bytes sum, Bytes small, int shift) =>
        (sum.AsInt32() + Vector.ShiftRightArithmetic(small.AsInt32(), shift)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes Field(Bytes words, int shift, byte mask) => words & Vector.Create((byte)(mask << shift));

    [MethodImpl(Inline)]
    public static Bytes AddShifted(Bytes a, Bytes b, int shift) => Bytes256.AddShifted(a, b, shift);

    [MethodImpl(Inline)]
    public static Bytes AddSeven(Bytes sum, Bytes codes, Bytes x) => AddByte(sum, codes, x);

    [MethodImpl(Inline)]
    public static Bytes AddByte(Bytes sum, Bytes codes, Bytes x) =>
        AvxVnni.MultiplyWideningAndAdd(sum.AsInt32(), codes, x.AsSByte()).AsByte();

    [MethodImpl(Inline)]
    public static Bytes AddWide(Bytes sum, Bytes high, Bytes low, Bytes x) =>
        (AddByte(sum, low, x).AsInt32() + Vector.ShiftLeft(AddByte(Zero, high, x).AsInt32(), 7)).AsByte();

    [MethodImpl(Inline)]
    public static Bytes RestoreBytes(Bytes sum, Bytes n) => sum;

    [MethodImpl(Inline)]
    public static Bytes AddPairs(Bytes sum, Bytes words, Bytes x) =>
        AvxVnni.MultiplyWideningAndAdd(sum.AsInt32(), words.AsInt16(), x.AsInt16()).AsByte();

    [MethodImpl(Inline)]
    public static Bytes SubtractProduct(Bytes sum, Floats factor, Bytes n) => Bytes256.SubtractProduct(sum, factor, n);

    [MethodImpl(Inline)]
    public static Floats ToFloat(Bytes sum) => Bytes256.ToFloat(sum);
}
