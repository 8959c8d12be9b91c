using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// How one row of int8 activations multiplies the codes of a strip. Every field of a word has sums of its own: a product of bytes takes
/// some five clocks before its sum can be used again, so a kernel with one sum a vector waits most of the time.
/// </summary>
internal unsafe interface IRowFormat
{
    /// <summary>Vectors of a chunk.</summary>
    static abstract int Words { get; }

    /// <summary>Bytes of x that a chunk takes.</summary>
    static abstract int Columns { get; }

    /// <summary>Chunks whose products fit in the small sums of every variant.</summary>
    static abstract int Chunks { get; }

    /// <summary>True if sums are those of <see cref="IByteLanes{B, V}.AddByte"/>, to be restored.</summary>
    static abstract bool IsBytes { get; }

    /// <summary>s0, s1 += the products of some chunks of two vectors.</summary>
    static abstract void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged;

    /// <summary>The same of four vectors, where registers are left for them: more sums at a time, and x is read half as often.</summary>
    static abstract void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged;
}

/// <summary>What the kernels of one row have in common.</summary>
internal static class RowFormat
{
    public const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    /// <summary>
    /// Words that are on their way from memory while others are multiplied: one panel is one stream, which the processor's prefetchers
    /// follow too late.
    /// </summary>
    public const int Ahead = 1024;
}

/// <inheritdoc cref="ByteFormat.Bits2"/>
internal readonly unsafe struct RowBits2 : IRowFormat
{
    public static int Words => 1;

    public static int Columns => 16;

    public static int Chunks => 16;

    public static bool IsBytes => false;

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = L.Zero, b0 = L.Zero, c0 = L.Zero, d0 = L.Zero, a1 = L.Zero, b1 = L.Zero, c1 = L.Zero, d1 = L.Zero;
        for (; chunks > 0; chunks--, words += step, x += 16)
        {
            B w0 = L.Load(words), w1 = L.Load(words + L.Count);
            L.Prefetch(words + RowFormat.Ahead);
            B v = L.Broadcast(*(int*)x);
            a0 = L.AddSmall(a0, L.Field(w0, 0, 3), v);
            a1 = L.AddSmall(a1, L.Field(w1, 0, 3), v);
            v = L.Broadcast(*(int*)(x + 4));
            b0 = L.AddSmall(b0, L.Field(w0, 2, 3), v);
            b1 = L.AddSmall(b1, L.Field(w1, 2, 3), v);
            v = L.Broadcast(*(int*)(x + 8));
            c0 = L.AddSmall(c0, L.Field(w0, 4, 3), v);
            c1 = L.AddSmall(c1, L.Field(w1, 4, 3), v);
            v = L.Broadcast(*(int*)(x + 12));
            d0 = L.AddSmall(d0, L.Field(w0, 6, 3), v);
            d1 = L.AddSmall(d1, L.Field(w1, 6, 3), v);
        }

        s0 = L.FlushField(L.FlushField(L.FlushField(L.FlushField(s0, a0, 0), b0, 2), c0, 4), d0, 6);
        s1 = L.FlushField(L.FlushField(L.FlushField(L.FlushField(s1, a1, 0), b1, 2), c1, 4), d1, 6);
    }

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        Add<L, B, V>(words, step, chunks, x, levels, ref s0, ref s1);
        Add<L, B, V>(words + (2 * L.Count), step, chunks, x, levels, ref s2, ref s3);
    }
}

/// <inheritdoc cref="ByteFormat.Bits4"/>
internal readonly unsafe struct RowBits4 : IRowFormat
{
    public static int Words => 1;

    public static int Columns => 8;

    public static int Chunks => 8;

    public static bool IsBytes => false;

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = L.Zero, b0 = L.Zero, a1 = L.Zero, b1 = L.Zero;
        for (; chunks > 0; chunks--, words += step, x += 8)
        {
            B w0 = L.Load(words), w1 = L.Load(words + L.Count);
            L.Prefetch(words + RowFormat.Ahead);
            B v = L.Broadcast(*(int*)x);
            a0 = L.AddSmall(a0, L.Field(w0, 0, 15), v);
            a1 = L.AddSmall(a1, L.Field(w1, 0, 15), v);
            v = L.Broadcast(*(int*)(x + 4));
            b0 = L.AddSmall(b0, L.Field(w0, 4, 15), v);
            b1 = L.AddSmall(b1, L.Field(w1, 4, 15), v);
        }

        s0 = L.FlushField(L.FlushField(s0, a0, 0), b0, 4);
        s1 = L.FlushField(L.FlushField(s1, a1, 0), b1, 4);
    }

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = L.Zero, b0 = L.Zero, a1 = L.Zero, b1 = L.Zero, a2 = L.Zero, b2 = L.Zero, a3 = L.Zero, b3 = L.Zero;
        for (; chunks > 0; chunks--, words += step, x += 8)
        {
            L.Prefetch(words + RowFormat.Ahead);
            L.Prefetch(words + (2 * L.Count) + RowFormat.Ahead);
            B v = L.Broadcast(*(int*)x), u = L.Broadcast(*(int*)(x + 4)), w = L.Load(words);
            a0 = L.AddSmall(a0, L.Field(w, 0, 15), v);
            b0 = L.AddSmall(b0, L.Field(w, 4, 15), u);
            w = L.Load(words + L.Count);
            a1 = L.AddSmall(a1, L.Field(w, 0, 15), v);
            b1 = L.AddSmall(b1, L.Field(w, 4, 15), u);
            w = L.Load(words + (2 * L.Count));
            a2 = L.AddSmall(a2, L.Field(w, 0, 15), v);
            b2 = L.AddSmall(b2, L.Field(w, 4, 15), u);
            w = L.Load(words + (3 * L.Count));
            a3 = L.AddSmall(a3, L.Field(w, 0, 15), v);
            b3 = L.AddSmall(b3, L.Field(w, 4, 15), u);
        }

        s0 = L.FlushField(L.FlushField(s0, a0, 0), b0, 4);
        s1 = L.FlushField(L.FlushField(s1, a1, 0), b1, 4);
        s2 = L.FlushField(L.FlushField(s2, a2, 0), b2, 4);
        s3 = L.FlushField(L.FlushField(s3, a3, 0), b3, 4);
    }
}

/// <summary><see cref="ByteFormat.Bits3"/>: two vectors of low pairs, one of high bits (<see cref="CodePanels"/>).</summary>
internal readonly unsafe struct RowBits3 : IRowFormat
{
    public static int Words => 3;

    public static int Columns => 32;

    public static int Chunks => 4;

    public static bool IsBytes => false;

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = L.Zero, b0 = L.Zero, a1 = L.Zero, b1 = L.Zero;
        for (; chunks > 0; chunks--, words += 3 * step, x += 32)
        {
            L.Prefetch(words + RowFormat.Ahead);
            L.Prefetch(words + step + RowFormat.Ahead);
            L.Prefetch(words + (2 * step) + RowFormat.Ahead);
            B h0 = L.Load(words + (2 * step)), h1 = L.Load(words + (2 * step) + L.Count);
            B w0 = L.Load(words), w1 = L.Load(words + L.Count);
            Half<L, B, V>(w0, w1, L.Shift(h0, -2), L.Shift(h1, -2), x, ref a0, ref b0, ref a1, ref b1);
            w0 = L.Load(words + step);
            w1 = L.Load(words + step + L.Count);
            Half<L, B, V>(w0, w1, L.Shift(h0, 2), L.Shift(h1, 2), x + 16, ref a0, ref b0, ref a1, ref b1);
        }

        s0 = L.Flush(L.Flush(s0, a0), b0);
        s1 = L.Flush(L.Flush(s1, a1), b1);
    }

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        Add<L, B, V>(words, step, chunks, x, levels, ref s0, ref s1);
        Add<L, B, V>(words + (2 * L.Count), step, chunks, x, levels, ref s2, ref s3);
    }

    // 16 columns, whose first high bit stands at bit 2 of h.
    [MethodImpl(RowFormat.Inline)]
    private static void Half<L, B, V>(B w0, B w1, B h0, B h1, sbyte* x, ref B a0, ref B b0, ref B a1, ref B b1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B v = L.Broadcast(*(int*)x);
        a0 = L.AddSmall(a0, L.Or(L.And(w0, 3), L.And(h0, 4)), v);
        a1 = L.AddSmall(a1, L.Or(L.And(w1, 3), L.And(h1, 4)), v);
        v = L.Broadcast(*(int*)(x + 4));
        b0 = L.AddSmall(b0, L.Or(L.And(L.Shift(w0, 2), 3), L.And(L.Shift(h0, 1), 4)), v);
        b1 = L.AddSmall(b1, L.Or(L.And(L.Shift(w1, 2), 3), L.And(L.Shift(h1, 1), 4)), v);
        v = L.Broadcast(*(int*)(x + 8));
        a0 = L.AddSmall(a0, L.Or(L.And(L.Shift(w0, 4), 3), L.And(L.Shift(h0, 2), 4)), v);
        a1 = L.AddSmall(a1, L.Or(L.And(L.Shift(w1, 4), 3), L.And(L.Shift(h1, 2), 4)), v);
        v = L.Broadcast(*(int*)(x + 12));
        b0 = L.AddSmall(b0, L.Or(L.And(L.Shift(w0, 6), 3), L.And(L.Shift(h0, 3), 4)), v);
        b1 = L.AddSmall(b1, L.Or(L.And(L.Shift(w1, 6), 3), L.And(L.Shift(h1, 3), 4)), v);
    }
}

/// <inheritdoc cref="ByteFormat.Bits8"/>
internal readonly unsafe struct RowBits8 : IRowFormat
{
    public static int Words => 1;

    public static int Columns => 4;

    public static int Chunks => 16;

    public static bool IsBytes => true;

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = s0, b0 = L.Zero, a1 = s1, b1 = L.Zero, v;
        for (; chunks > 1; chunks -= 2, words += 2 * step, x += 8)
        {
            L.Prefetch(words + RowFormat.Ahead);
            L.Prefetch(words + step + RowFormat.Ahead);
            v = L.Broadcast(*(int*)x);
            a0 = L.AddByte(a0, L.Load(words), v);
            a1 = L.AddByte(a1, L.Load(words + L.Count), v);
            v = L.Broadcast(*(int*)(x + 4));
            b0 = L.AddByte(b0, L.Load(words + step), v);
            b1 = L.AddByte(b1, L.Load(words + step + L.Count), v);
        }

        if (chunks > 0)
        {
            v = L.Broadcast(*(int*)x);
            a0 = L.AddByte(a0, L.Load(words), v);
            a1 = L.AddByte(a1, L.Load(words + L.Count), v);
        }

        s0 = L.AddShifted(a0, b0, 0);
        s1 = L.AddShifted(a1, b1, 0);
    }

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B a0 = s0, b0 = L.Zero, a1 = s1, b1 = L.Zero, a2 = s2, b2 = L.Zero, a3 = s3, b3 = L.Zero, v;
        for (; chunks > 1; chunks -= 2, words += 2 * step, x += 8)
        {
            L.Prefetch(words + RowFormat.Ahead);
            L.Prefetch(words + (2 * L.Count) + RowFormat.Ahead);
            L.Prefetch(words + step + RowFormat.Ahead);
            L.Prefetch(words + step + (2 * L.Count) + RowFormat.Ahead);
            v = L.Broadcast(*(int*)x);
            a0 = L.AddByte(a0, L.Load(words), v);
            a1 = L.AddByte(a1, L.Load(words + L.Count), v);
            a2 = L.AddByte(a2, L.Load(words + (2 * L.Count)), v);
            a3 = L.AddByte(a3, L.Load(words + (3 * L.Count)), v);
            v = L.Broadcast(*(int*)(x + 4));
            b0 = L.AddByte(b0, L.Load(words + step), v);
            b1 = L.AddByte(b1, L.Load(words + step + L.Count), v);
            b2 = L.AddByte(b2, L.Load(words + step + (2 * L.Count)), v);
            b3 = L.AddByte(b3, L.Load(words + step + (3 * L.Count)), v);
        }

        if (chunks > 0)
        {
            v = L.Broadcast(*(int*)x);
            a0 = L.AddByte(a0, L.Load(words), v);
            a1 = L.AddByte(a1, L.Load(words + L.Count), v);
            a2 = L.AddByte(a2, L.Load(words + (2 * L.Count)), v);
            a3 = L.AddByte(a3, L.Load(words + (3 * L.Count)), v);
        }

        s0 = L.AddShifted(a0, b0, 0);
        s1 = L.AddShifted(a1, b1, 0);
        s2 = L.AddShifted(a2, b2, 0);
        s3 = L.AddShifted(a3, b3, 0);
    }
}

/// <inheritdoc cref="ByteFormat.Levels"/>
internal readonly unsafe struct RowLevels : IRowFormat
{
    public static int Words => 1;

    public static int Columns => 8;

    public static int Chunks => 8;

    public static bool IsBytes => false;

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        B high = L.Table(levels), low = L.Table(levels + 16);
        B l0 = s0, h0 = L.Zero, l1 = s1, h1 = L.Zero;
        for (; chunks > 0; chunks--, words += step, x += 8)
        {
            B w0 = L.Load(words), w1 = L.Load(words + L.Count);
            L.Prefetch(words + RowFormat.Ahead);
            B v = L.Broadcast(*(int*)x), p0 = L.And(w0, 15), p1 = L.And(w1, 15);
            l0 = L.AddSeven(l0, L.Lookup(low, p0), v);
            l1 = L.AddSeven(l1, L.Lookup(low, p1), v);
            h0 = L.AddSeven(h0, L.Lookup(high, p0), v);
            h1 = L.AddSeven(h1, L.Lookup(high, p1), v);
            (v, p0, p1) = (L.Broadcast(*(int*)(x + 4)), L.And(L.Shift(w0, 4), 15), L.And(L.Shift(w1, 4), 15));
            l0 = L.AddSeven(l0, L.Lookup(low, p0), v);
            l1 = L.AddSeven(l1, L.Lookup(low, p1), v);
            h0 = L.AddSeven(h0, L.Lookup(high, p0), v);
            h1 = L.AddSeven(h1, L.Lookup(high, p1), v);
        }

        s0 = L.AddShifted(l0, h0, 7);
        s1 = L.AddShifted(l1, h1, 7);
    }

    [MethodImpl(RowFormat.Inline)]
    public static void Add<L, B, V>(uint* words, nint step, nint chunks, sbyte* x, byte* levels, ref B s0, ref B s1, ref B s2, ref B s3)
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
        where V : unmanaged
    {
        Add<L, B, V>(words, step, chunks, x, levels, ref s0, ref s1);
        Add<L, B, V>(words + (2 * L.Count), step, chunks, x, levels, ref s2, ref s3);
    }
}
