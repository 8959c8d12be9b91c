using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>A function of two numbers, applied to whole vectors; functions of one number ignore the second.</summary>
internal interface IElementwise
{
    static abstract V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged;
}

/// <summary>a + b.</summary>
internal readonly struct AddFunction : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Add(a, b);
}

/// <summary>GELU with the error function.</summary>
internal readonly struct GeluExactFunction : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged => VectorMath<S, V>.GeluExact(a);
}

/// <summary>GELU's tanh form.</summary>
internal readonly struct GeluTanhFunction : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged => VectorMath<S, V>.GeluTanh(a);
}

/// <summary>silu(a)·b.</summary>
internal readonly struct SwiGluFunction : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Multiply(VectorMath<S, V>.Silu(a), b);
}

/// <summary>relu(a)²·b.</summary>
internal readonly struct SquaredReluGateFunction : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        V positive = S.Max(S.Zero, a);
        return S.Multiply(S.Multiply(positive, positive), b);
    }
}

/// <summary>y = f(a, b) over a run of elements; y may be a or b.</summary>
internal unsafe struct ElementwiseJob<S, V, F> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IElementwise
{
    public float* A, B, Y;
    public nint Count;

    public readonly int Parts => Kernels.Parts.Count(Count, Kernels.Parts.ElementsPerPart);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        nint first = part * Kernels.Parts.ElementsPerPart;
        nint count = nint.Min(Kernels.Parts.ElementsPerPart, Count - first);
        float* a = A + first, b = B + first, y = Y + first;
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(F.Apply<S, V>(S.Load(a + i), S.Load(b + i)), y + i);
        }

        if (i < count)
        {
            Remainder(a + i, b + i, y + i, (int)(count - i));
        }
    }

    private static void Remainder(float* a, float* b, float* y, int count)
    {
        float* buffer = stackalloc float[2 * S.Count];
        new Span<float>(buffer, 2 * S.Count).Clear();
        new Span<float>(a, count).CopyTo(new Span<float>(buffer, count));
        new Span<float>(b, count).CopyTo(new Span<float>(buffer + S.Count, count));
        S.Store(F.Apply<S, V>(S.Load(buffer), S.Load(buffer + S.Count)), buffer);
        new Span<float>(buffer, count).CopyTo(new Span<float>(y, count));
    }
}
