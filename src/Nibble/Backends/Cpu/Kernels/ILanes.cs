namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// What a kernel needs from a vector of floats. Kernels are written once against this interface; the compiler makes one copy per
/// instruction set, with the calls gone. NaN rule of Max and Min: if either operand is NaN the result is the second one.
/// </summary>
/// <typeparam name="V">The vector: Vector512, Vector256, or a single float.</typeparam>
internal unsafe interface ILanes<V>
    where V : unmanaged
{
    /// <summary>Floats in a vector.</summary>
    static abstract int Count { get; }

    static abstract V Zero { get; }

    static abstract V Set(float value);

    static abstract V Load(float* source);

    static abstract void Store(V value, float* destination);

    static abstract V Add(V a, V b);

    static abstract V Subtract(V a, V b);

    static abstract V Multiply(V a, V b);

    static abstract V Divide(V a, V b);

    /// <summary>a·b + c, rounded once where the instruction set can.</summary>
    static abstract V MultiplyAdd(V a, V b, V c);

    static abstract V Max(V a, V b);

    static abstract V Min(V a, V b);

    static abstract V Abs(V a);

    static abstract V Sqrt(V a);

    /// <summary>Rounds to the nearest whole number, ties to even.</summary>
    static abstract V Round(V a);

    /// <summary>2^exponent for whole exponents of −126 … 127; 0 for −127.</summary>
    static abstract V PowerOfTwo(V exponent);

    /// <summary>Per lane: a &lt; b ? yes : no.</summary>
    static abstract V IfLess(V a, V b, V yes, V no);

    /// <summary>Sum of the lanes, always in the same order.</summary>
    static abstract float Sum(V a);

    /// <summary>Largest lane.</summary>
    static abstract float Largest(V a);

    /// <summary>The first halves of 2·Count bfloat16 numbers in pair order (see <see cref="PanelLayout"/>), widened.</summary>
    static abstract V BFloat16First(ushort* source);

    /// <summary>The second halves of 2·Count bfloat16 numbers in pair order, widened.</summary>
    static abstract V BFloat16Second(ushort* source);

    /// <summary>The first halves of 2·Count half-precision numbers in pair order, widened.</summary>
    static abstract V HalfFirst(ushort* source);

    /// <summary>The second halves of 2·Count half-precision numbers in pair order, widened.</summary>
    static abstract V HalfSecond(ushort* source);

    /// <summary>As <see cref="HalfFirst"/>, faster, for memory without infinities and NaN.</summary>
    static abstract V FiniteHalfFirst(ushort* source);

    /// <summary>As <see cref="HalfSecond"/>, faster, for memory without infinities and NaN.</summary>
    static abstract V FiniteHalfSecond(ushort* source);

    /// <summary>Count words of 32 bits, kept as bits in a vector of floats.</summary>
    static abstract V LoadBits(uint* source);

    /// <summary>Each word shifted right.</summary>
    static abstract V ShiftBits(V bits, int count);

    /// <summary>Per word: low field of 2 bits | low bit of <paramref name="high"/> « 2.</summary>
    static abstract V MergeBits(V low, V high);

    /// <summary>Per word: its bits under the mask (below 2^24) as a float.</summary>
    static abstract V Field(V bits, uint mask);

    /// <summary>Per word: the entry of a table of 16 floats that its low 4 bits name.</summary>
    static abstract V Lookup(V bits, float* table);
}
