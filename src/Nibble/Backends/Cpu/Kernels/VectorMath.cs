using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Elementary functions on vectors. NaN in, NaN out; the errors stated are checked by tests over the whole range.</summary>
internal static class VectorMath<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    /// <summary>
    /// e^x within 2 units in the last place; ∞ above the range, 0 below 2.4e-38 (no subnormal results: they would be slow).
    /// x = n·ln 2 + r with |r| ≤ ½·ln 2 and e^r by Cephes' polynomial.
    /// </summary>
    [MethodImpl(Inline)]
    public static V Exp(V x)
    {
        // Min and Max return their second operand for NaN.
        V clamped = S.Max(S.Set(-87.6f), S.Min(S.Set(89f), x));
        V n = S.Round(S.Multiply(clamped, S.Set(1.44269504f)));
        V r = S.MultiplyAdd(n, S.Set(-0.693359375f), clamped);
        r = S.MultiplyAdd(n, S.Set(2.12194440e-4f), r);
        V p = S.MultiplyAdd(S.Set(1.9875691500e-4f), r, S.Set(1.3981999507e-3f));
        p = S.MultiplyAdd(p, r, S.Set(8.3334519073e-3f));
        p = S.MultiplyAdd(p, r, S.Set(4.1665795894e-2f));
        p = S.MultiplyAdd(p, r, S.Set(1.6666665459e-1f));
        p = S.MultiplyAdd(p, r, S.Set(5.0000001201e-1f));
        p = S.Add(S.MultiplyAdd(p, S.Multiply(r, r), r), S.Set(1f));
        // 2^n as 2^(n − 1)·2: n = 128 still has a finite first factor, and n = −126 gives 0.
        return S.Multiply(S.Multiply(p, S.PowerOfTwo(S.Subtract(n, S.Set(1f)))), S.Set(2f));
    }

    /// <summary>x·sigmoid(x).</summary>
    [MethodImpl(Inline)]
    public static V Silu(V x) => S.Divide(x, S.Add(S.Set(1f), Exp(S.Subtract(S.Zero, x))));

    /// <summary>
    /// GELU's tanh form, ½x·(1 + tanh(u)) with u = √(2/π)·(x + 0.044715x³), as x·sigmoid(2u): the same function without the loss of
    /// digits that 1 + tanh(u) has for negative u.
    /// </summary>
    [MethodImpl(Inline)]
    public static V GeluTanh(V x)
    {
        V cubic = S.MultiplyAdd(S.Multiply(S.Multiply(x, x), S.Set(0.044715f)), x, x);
        return S.Divide(x, S.Add(S.Set(1f), Exp(S.Multiply(cubic, S.Set(-1.5957691216f)))));
    }

    /// <summary>x·Φ(x).</summary>
    [MethodImpl(Inline)]
    public static V GeluExact(V x)
    {
        V tail = S.Multiply(S.Set(0.5f), ErfComplement(S.Multiply(S.Abs(x), S.Set(0.70710678f))));
        return S.Multiply(x, S.IfLess(x, S.Zero, tail, S.Subtract(S.Set(1f), tail)));
    }

    /// <summary>
    /// 1 − erf(z) for z ≥ 0, relative error below 5e-7·(1 + z²): the Chebyshev fit of Numerical Recipes (section 6.2, erfcc), whose
    /// own error is 1.2e-7; the rest is the rounding of the exponent.
    /// </summary>
    [MethodImpl(Inline)]
    public static V ErfComplement(V z)
    {
        V t = S.Divide(S.Set(1f), S.MultiplyAdd(z, S.Set(0.5f), S.Set(1f)));
        V p = S.MultiplyAdd(S.Set(0.17087277f), t, S.Set(-0.82215223f));
        p = S.MultiplyAdd(p, t, S.Set(1.48851587f));
        p = S.MultiplyAdd(p, t, S.Set(-1.13520398f));
        p = S.MultiplyAdd(p, t, S.Set(0.27886807f));
        p = S.MultiplyAdd(p, t, S.Set(-0.18628806f));
        p = S.MultiplyAdd(p, t, S.Set(0.09678418f));
        p = S.MultiplyAdd(p, t, S.Set(0.37409196f));
        p = S.MultiplyAdd(p, t, S.Set(1.00002368f));
        p = S.MultiplyAdd(p, t, S.Set(-1.26551223f));
        return S.Multiply(t, Exp(S.Subtract(p, S.Multiply(z, z))));
    }
}
