namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// What products of packed codes with int8 activations need from a vector: lanes of 32 bits, each with four neighbouring codes of
/// one row of the weight, times the same four activations of one row of x. All sums are exact in every variant; activations are
/// −127 … 127.
/// </summary>
/// <typeparam name="B">The vector of bytes.</typeparam>
/// <typeparam name="V">The vector of as many floats as there are lanes.</typeparam>
internal unsafe interface IByteLanes<B, V>
    where B : unmanaged
    where V : unmanaged
{
    /// <summary>Lanes of 32 bits.</summary>
    static abstract int Count { get; }

    static abstract B Zero { get; }

    static abstract B Load(uint* words);

    static abstract void Store(B value, uint* words);

    /// <summary>True if products of codes of 8 bits go straight into 32 bits, as <see cref="AddByte"/> without an offset.</summary>
    static abstract bool HasByteProducts { get; }

    /// <summary>Asks for the cache line of an address, which need not exist.</summary>
    static abstract void Prefetch(uint* address);

    /// <summary>The same four bytes in every lane.</summary>
    static abstract B Broadcast(int bytes);

    /// <summary>16 bytes in every 128 bits.</summary>
    static abstract B Table(byte* table);

    static abstract B And(B a, byte mask);

    static abstract B Or(B a, B b);

    /// <summary>The first and third byte of each lane as 16-bit numbers.</summary>
    static abstract B Even(B bytes);

    /// <summary>The second and fourth byte.</summary>
    static abstract B Odd(B bytes);

    /// <summary>Each lane shifted right (left if negative); bits cross bytes, so a mask follows.</summary>
    static abstract B Shift(B a, int count);

    /// <summary>Per byte (below 16): the entry of a table.</summary>
    static abstract B Lookup(B table, B index);

    /// <summary>
    /// small + Σ codes·x, for codes of at most 4 bits. Small sums may be 16 bits wide: they hold up to 8 (4 bits), 16 (3 bits) or 40
    /// (2 bits) of these additions, then <see cref="Flush"/> empties them.
    /// </summary>
    static abstract B AddSmall(B small, B codes, B x);

    /// <summary>sum + what small holds, in 32 bits.</summary>
    static abstract B Flush(B sum, B small);

    /// <summary>
    /// The codes at some bits of each byte, for sums of their own: where products of bytes go straight into 32 bits they stay at their
    /// place, which saves a shift a vector, and <see cref="FlushField"/> shifts the sum.
    /// </summary>
    static abstract B Field(B words, int shift, byte mask);

    /// <summary>sum + what small holds of codes from <see cref="Field"/> at that shift.</summary>
    static abstract B FlushField(B sum, B small, int shift);

    /// <summary>a + (b « shift) in 32 bits.</summary>
    static abstract B AddShifted(B a, B b, int shift);

    /// <summary>sum + Σ codes·x, for codes below 128, in 32 bits.</summary>
    static abstract B AddSeven(B sum, B codes, B x);

    /// <summary>sum + Σ code·x, for codes of 8 bits; some variants leave out a constant times Σ x until <see cref="RestoreBytes"/>.</summary>
    static abstract B AddByte(B sum, B codes, B x);

    /// <summary>A sum of <see cref="AddByte"/> with what it left out; n is Σ x.</summary>
    static abstract B RestoreBytes(B sum, B n);

    /// <summary>sum + Σ of two products of 16-bit numbers a lane.</summary>
    static abstract B AddPairs(B sum, B words, B x);

    /// <summary>sum + Σ (128·high + low)·x, for high and low below 128.</summary>
    static abstract B AddWide(B sum, B high, B low, B x);

    /// <summary>sum − factor·n in 32 bits, for whole factors.</summary>
    static abstract B SubtractProduct(B sum, V factor, B n);

    /// <summary>Each sum as a float.</summary>
    static abstract V ToFloat(B sum);
}
