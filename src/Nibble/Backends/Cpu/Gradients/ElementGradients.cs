using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>d·gelu′(x) for the tanh form: with s = sigmoid(2u), gelu = x·s and gelu′ = s + x·s·(1 − s)·2u′.</summary>
internal readonly struct GeluTanhGradient : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        V square = S.Multiply(a, a);
        V cubic = S.MultiplyAdd(S.Multiply(square, S.Set(0.044715f)), a, a);
        V s = S.Divide(S.Set(1f), S.Add(S.Set(1f), VectorMath<S, V>.Exp(S.Multiply(cubic, S.Set(-1.5957691216f)))));
        V slope = S.MultiplyAdd(square, S.Set(1.5957691216f * 3 * 0.044715f), S.Set(1.5957691216f));
        V inner = S.Multiply(S.Multiply(a, slope), S.Multiply(s, S.Subtract(S.Set(1f), s)));
        return S.Multiply(b, S.Add(s, inner));
    }
}

/// <summary>d·gelu′(x) for the exact form: gelu′ = Φ(x) + x·φ(x).</summary>
internal readonly struct GeluExactGradient : IElementwise
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V a, V b)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        V tail = S.Multiply(S.Set(0.5f), VectorMath<S, V>.ErfComplement(S.Multiply(S.Abs(a), S.Set(0.70710678f))));
        V normal = S.IfLess(a, S.Zero, tail, S.Subtract(S.Set(1f), tail));
        V density = S.Multiply(S.Set(0.39894228f), VectorMath<S, V>.Exp(S.Multiply(S.Multiply(a, a), S.Set(-0.5f))));
        return S.Multiply(b, S.MultiplyAdd(a, density, normal));
    }
}

/// <summary>Both gradients of a gate times a value.</summary>
internal interface IGateGradient
{
    static abstract void Apply<S, V>(V gate, V up, V dy, out V dGate, out V dUp)
        where S : struct, ILanes<V>
        where V : unmanaged;
}

/// <summary>silu(gate)·up: with s = sigmoid(gate), silu′ = s·(1 + gate·(1 − s)).</summary>
internal readonly struct SwiGluGradient : IGateGradient
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Apply<S, V>(V gate, V up, V dy, out V dGate, out V dUp)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        V s = S.Divide(S.Set(1f), S.Add(S.Set(1f), VectorMath<S, V>.Exp(S.Subtract(S.Zero, gate))));
        V slope = S.Multiply(s, S.MultiplyAdd(gate, S.Subtract(S.Set(1f), s), S.Set(1f)));
        dGate = S.Multiply(S.Multiply(dy, up), slope);
        dUp = S.Multiply(dy, S.Multiply(gate, s));
    }
}

/// <summary>relu(gate)²·up.</summary>
internal readonly struct SquaredReluGradient : IGateGradient
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Apply<S, V>(V gate, V up, V dy, out V dGate, out V dUp)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        V positive = S.Max(S.Zero, gate);
        dGate = S.Multiply(S.Multiply(dy, up), S.Add(positive, positive));
        dUp = S.Multiply(dy, S.Multiply(positive, positive));
    }
}

/// <summary>Applies a gate's gradient to runs of elements.</summary>
internal unsafe struct GateGradientJob<S, V, F> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IGateGradient
{
    public float* Gate, Up, Dy, DGate, DUp;
    public nint Count;

    public readonly int Parts => Kernels.Parts.Count(Count, Kernels.Parts.ElementsPerPart);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        nint i = part * Kernels.Parts.ElementsPerPart;
        nint end = nint.Min(Count, i + Kernels.Parts.ElementsPerPart);
        for (; i <= end - S.Count; i += S.Count)
        {
            F.Apply<S, V>(S.Load(Gate + i), S.Load(Up + i), S.Load(Dy + i), out V dGate, out V dUp);
            S.Store(dGate, DGate + i);
            S.Store(dUp, DUp + i);
        }

        for (; i < end; i++)
        {
            F.Apply<Lanes1, float>(Gate[i], Up[i], Dy[i], out DGate[i], out DUp[i]);
        }
    }
}
