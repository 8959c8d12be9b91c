using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// The order of elements in a panel of 2·Count output features. F32 stands in natural order. Of 16-bit dtypes, each pair of
/// neighbours holds features j and j + Count: then a shift and a mask of one 32-bit load give two whole vectors, without a shuffle.
/// </summary>
internal static class PanelLayout
{
    /// <summary>Where feature <paramref name="lane"/> of a panel stands, for 16-bit elements and vectors of <paramref name="count"/> floats.</summary>
    public static int PairIndex(int lane, int count) => lane < count ? 2 * lane : (2 * (lane - count)) + 1;
}

/// <summary>How weights of one dtype are read from a panel.</summary>
internal unsafe interface IPanelLoader
{
    /// <summary>Features 0 … Count − 1 at one step of k.</summary>
    static abstract V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged;

    /// <summary>Features Count … 2·Count − 1 at one step of k.</summary>
    static abstract V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged;
}

/// <summary>F32 weights.</summary>
internal readonly unsafe struct FloatLoader : IPanelLoader
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Load((float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Load((float*)source + S.Count);
}

/// <summary>
/// Weights that come from memory in one stream, which the processor's own prefetcher follows only to the end of a page. (Two or
/// more streams are better off without.)
/// </summary>
internal readonly unsafe struct Streamed<L> : IPanelLoader
    where L : struct, IPanelLoader
{
    private const int Ahead = 2048;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(source + Ahead);
        }

        return L.First<S, V>(source);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => L.Second<S, V>(source);
}

/// <summary>BF16 weights.</summary>
internal readonly unsafe struct BFloat16Loader : IPanelLoader
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.BFloat16First((ushort*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.BFloat16Second((ushort*)source);
}

/// <summary>F16 weights.</summary>
internal readonly unsafe struct HalfLoader : IPanelLoader
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.HalfFirst((ushort*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.HalfSecond((ushort*)source);
}

/// <summary>F16 weights none of which is infinite or NaN.</summary>
internal readonly unsafe struct FiniteHalfLoader : IPanelLoader
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V First<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.FiniteHalfFirst((ushort*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Second<S, V>(byte* source)
        where S : struct, ILanes<V>
        where V : unmanaged => S.FiniteHalfSecond((ushort*)source);
}
