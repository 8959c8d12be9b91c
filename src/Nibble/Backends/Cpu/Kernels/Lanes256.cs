using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Vector = System.Runtime.Intrinsics.Vector256;
using Floats = System.Runtime.Intrinsics.Vector256<float>;
using Integers = System.Runtime.Intrinsics.Vector256<int>;
using Words = System.Runtime.Intrinsics.Vector256<uint>;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>256-bit vectors through the portable API: where the processor lacks them they still compute, in software.</summary>
internal readonly unsafe struct Lanes256 : ILanes<Floats>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public static int Count => 8;

    public static Floats Zero => Floats.Zero;

    [MethodImpl(Inline)]
    public static Floats Set(float value) => Vector.Create(value);

    [MethodImpl(Inline)]
    public static Floats Load(float* source) => Vector.Load(source);

    [MethodImpl(Inline)]
    public static void Store(Floats value, float* destination) => value.Store(destination);

    [MethodImpl(Inline)]
    public static Floats Add(Floats a, Floats b) => a + b;

    [MethodImpl(Inline)]
    public static Floats Subtract(Floats a, Floats b) => a - b;

    [MethodImpl(Inline)]
    public static Floats Multiply(Floats a, Floats b) => a * b;

    [MethodImpl(Inline)]
    public static Floats Divide(Floats a, Floats b) => a / b;

    [MethodImpl(Inline)]
    public static Floats MultiplyAdd(Floats a, Floats b, Floats c) => Vector.FusedMultiplyAdd(a, b, c);

    [MethodImpl(Inline)]
    public static Floats Max(Floats a, Floats b) => Vector.MaxNative(a, b);

    [MethodImpl(Inline)]
    public static Floats Min(Floats a, Floats b) => Vector.MinNative(a, b);

    [MethodImpl(Inline)]
    public static Floats Abs(Floats a) => Vector.Abs(a);

    [MethodImpl(Inline)]
    public static Floats Sqrt(Floats a) => Vector.Sqrt(a);

    [MethodImpl(Inline)]
    public static Floats Round(Floats a) => Vector.Round(a);

    [MethodImpl(Inline)]
    public static Floats PowerOfTwo(Floats exponent) =>
        Vector.ShiftLeft(Vector.ConvertToInt32Native(exponent) + Vector.Create(127), 23).AsSingle();

    [MethodImpl(Inline)]
    public static Floats IfLess(Floats a, Floats b, Floats yes, Floats no) =>
        Vector.ConditionalSelect(Vector.LessThan(a, b), yes, no);

    [MethodImpl(Inline)]
    public static float Sum(Floats a) => Lanes128.Sum(a.GetLower() + a.GetUpper());

    [MethodImpl(Inline)]
    public static float Largest(Floats a) => Lanes128.Largest(Vector128.Max(a.GetLower(), a.GetUpper()));

    [MethodImpl(Inline)]
    public static Floats BFloat16First(ushort* source) => Vector.ShiftLeft(Vector.Load((uint*)source), 16).AsSingle();

    [MethodImpl(Inline)]
    public static Floats BFloat16Second(ushort* source) => (Vector.Load((uint*)source) & Vector.Create(0xffff0000u)).AsSingle();

    [MethodImpl(Inline)]
    public static Floats HalfFirst(ushort* source) => Widen(Vector.Load((uint*)source) & Vector.Create(0xffffu));

    [MethodImpl(Inline)]
    public static Floats HalfSecond(ushort* source) => Widen(Vector.ShiftRightLogical(Vector.Load((uint*)source), 16));

    [MethodImpl(Inline)]
    public static Floats LoadBits(uint* source) => Vector.Load(source).AsSingle();

    [MethodImpl(Inline)]
    public static Floats ShiftBits(Floats bits, int count) => Vector.ShiftRightLogical(bits.AsUInt32(), count).AsSingle();

    [MethodImpl(Inline)]
    public static Floats MergeBits(Floats low, Floats high) =>
        ((low.AsUInt32() & Vector.Create(3u)) | Vector.ShiftLeft(high.AsUInt32() & Vector.Create(1u), 2)).AsSingle();

    [MethodImpl(Inline)]
    public static Floats Field(Floats bits, uint mask) => Vector.ConvertToSingle((bits.AsUInt32() & Vector.Create(mask)).AsInt32());

    // Two permutations of 8 entries each; bit 3, moved to the sign, chooses.
    [MethodImpl(Inline)]
    public static Floats Lookup(Floats bits, float* table)
    {
        if (Avx2.IsSupported)
        {
            Floats low = Avx2.PermuteVar8x32(Vector.Load(table), bits.AsInt32());
            Floats high = Avx2.PermuteVar8x32(Vector.Load(table + 8), bits.AsInt32());
            return Avx.BlendVariable(low, high, Vector.ShiftLeft(bits.AsUInt32(), 28).AsSingle());
        }

        return Vector.Create(Lanes128.Lookup(bits.GetLower(), table), Lanes128.Lookup(bits.GetUpper(), table));
    }

    // A shift that keeps the sign, and a mask, put sign, exponent and fraction in place at once.
    [MethodImpl(Inline)]
    public static Floats FiniteHalfFirst(ushort* source) => Rescale(Vector.ShiftLeft(Vector.Load((int*)source), 16));

    [MethodImpl(Inline)]
    public static Floats FiniteHalfSecond(ushort* source) => Rescale(Vector.Load((int*)source));

    [MethodImpl(Inline)]
    private static Floats Rescale(Integers upper) =>
        (Vector.ShiftRightArithmetic(upper, 3) & Vector.Create(unchecked((int)0x8fffe000))).AsSingle() * Vector.Create(5.192296858534828e33f);

    // .NET has no F16C: move exponent and fraction into place and correct the exponent's bias by a product, which also turns the
    // half's subnormal numbers into normal ones; infinities and NaN get the full exponent back.
    // Processors of Intel's stop for some 150 cycles at a subnormal operand, which 0.2 % of trained weights are. Ways around that (a
    // difference and a blend, or a branch) take 7 to 10 instructions instead of 3: tried on a Zen 3, which does not stop, they read
    // halves from its cache at 10 to 13 GB/s instead of 24. HalfTile's machine code has vcvtph2ps.
    [MethodImpl(Inline)]
    private static Floats Widen(Words half)
    {
        Words sign = Vector.ShiftLeft(half & Vector.Create(0x8000u), 16);
        Words magnitude = Vector.ShiftLeft(half & Vector.Create(0x7fffu), 13);
        Words special = Vector.GreaterThan(magnitude.AsInt32(), Vector.Create(0x0f7fffff)).AsUInt32() & Vector.Create(0x7f800000u);
        Floats scaled = magnitude.AsSingle() * Vector.Create(5.192296858534828e33f);
        return (scaled.AsUInt32() | special | sign).AsSingle();
    }
}
