using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Reductions over a row. Their order depends on the length and the vector only.</summary>
internal static unsafe class Reduce<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    /// <summary>Σ a·b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Dot(float* a, float* b, nint count)
    {
        V s0 = S.Zero, s1 = S.Zero, s2 = S.Zero, s3 = S.Zero;
        nint i = 0;
        for (; i <= count - (4 * S.Count); i += 4 * S.Count)
        {
            s0 = S.MultiplyAdd(S.Load(a + i), S.Load(b + i), s0);
            s1 = S.MultiplyAdd(S.Load(a + i + S.Count), S.Load(b + i + S.Count), s1);
            s2 = S.MultiplyAdd(S.Load(a + i + (2 * S.Count)), S.Load(b + i + (2 * S.Count)), s2);
            s3 = S.MultiplyAdd(S.Load(a + i + (3 * S.Count)), S.Load(b + i + (3 * S.Count)), s3);
        }

        for (; i <= count - S.Count; i += S.Count)
        {
            s0 = S.MultiplyAdd(S.Load(a + i), S.Load(b + i), s0);
        }

        float sum = S.Sum(S.Add(S.Add(s0, s1), S.Add(s2, s3)));
        for (; i < count; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    /// <summary>Σ a·b for four rows of b, <paramref name="stride"/> apart, into results[0 … 3].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot4(float* a, float* b, nint stride, nint count, float* results)
    {
        float* b0 = b, b1 = b0 + stride, b2 = b1 + stride, b3 = b2 + stride;
        V s0 = S.Zero, s1 = S.Zero, s2 = S.Zero, s3 = S.Zero;
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            V x = S.Load(a + i);
            s0 = S.MultiplyAdd(x, S.Load(b0 + i), s0);
            s1 = S.MultiplyAdd(x, S.Load(b1 + i), s1);
            s2 = S.MultiplyAdd(x, S.Load(b2 + i), s2);
            s3 = S.MultiplyAdd(x, S.Load(b3 + i), s3);
        }

        results[0] = S.Sum(s0);
        results[1] = S.Sum(s1);
        results[2] = S.Sum(s2);
        results[3] = S.Sum(s3);
        for (; i < count; i++)
        {
            results[0] += a[i] * b0[i];
            results[1] += a[i] * b1[i];
            results[2] += a[i] * b2[i];
            results[3] += a[i] * b3[i];
        }
    }

    /// <summary>Σ a.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Sum(float* a, nint count)
    {
        V s0 = S.Zero, s1 = S.Zero;
        nint i = 0;
        for (; i <= count - (2 * S.Count); i += 2 * S.Count)
        {
            s0 = S.Add(S.Load(a + i), s0);
            s1 = S.Add(S.Load(a + i + S.Count), s1);
        }

        float sum = S.Sum(S.Add(s0, s1));
        for (; i < count; i++)
        {
            sum += a[i];
        }

        return sum;
    }

    /// <summary>Σ (a − center)².</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float SumOfSquares(float* a, float center, nint count)
    {
        V s0 = S.Zero, s1 = S.Zero, middle = S.Set(center);
        nint i = 0;
        for (; i <= count - (2 * S.Count); i += 2 * S.Count)
        {
            V d0 = S.Subtract(S.Load(a + i), middle), d1 = S.Subtract(S.Load(a + i + S.Count), middle);
            s0 = S.MultiplyAdd(d0, d0, s0);
            s1 = S.MultiplyAdd(d1, d1, s1);
        }

        float sum = S.Sum(S.Add(s0, s1));
        for (; i < count; i++)
        {
            float d = a[i] - center;
            sum += d * d;
        }

        return sum;
    }

    /// <summary>The largest element, −∞ for none; NaN elements may be passed over (what uses it then yields NaN by itself).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Largest(float* a, nint count)
    {
        V m0 = S.Set(float.NegativeInfinity), m1 = m0;
        nint i = 0;
        for (; i <= count - (2 * S.Count); i += 2 * S.Count)
        {
            m0 = S.Max(S.Load(a + i), m0);
            m1 = S.Max(S.Load(a + i + S.Count), m1);
        }

        float largest = S.Largest(S.Max(m0, m1));
        for (; i < count; i++)
        {
            largest = a[i] > largest ? a[i] : largest;
        }

        return largest;
    }

    /// <summary>a = e^(a − shift), in place, and the sum of the results.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float ExpAndSum(float* a, float shift, nint count)
    {
        V sum = S.Zero, shifts = S.Set(shift);
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            V e = VectorMath<S, V>.Exp(S.Subtract(S.Load(a + i), shifts));
            S.Store(e, a + i);
            sum = S.Add(sum, e);
        }

        if (i < count)
        {
            // Missing lanes hold −∞, whose exponential is 0.
            float* buffer = stackalloc float[S.Count];
            new Span<float>(buffer, S.Count).Fill(float.NegativeInfinity);
            new Span<float>(a + i, (int)(count - i)).CopyTo(new Span<float>(buffer, S.Count));
            V e = VectorMath<S, V>.Exp(S.Subtract(S.Load(buffer), shifts));
            S.Store(e, buffer);
            sum = S.Add(sum, e);
            new Span<float>(buffer, (int)(count - i)).CopyTo(new Span<float>(a + i, (int)(count - i)));
        }

        return S.Sum(sum);
    }

    /// <summary>y = y·factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(float* y, float factor, nint count)
    {
        V factors = S.Set(factor);
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.Multiply(S.Load(y + i), factors), y + i);
        }

        for (; i < count; i++)
        {
            y[i] *= factor;
        }
    }

    /// <summary>y = y + x·factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddScaled(float* x, float factor, float* y, nint count)
    {
        V factors = S.Set(factor);
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.MultiplyAdd(S.Load(x + i), factors, S.Load(y + i)), y + i);
        }

        for (; i < count; i++)
        {
            y[i] += x[i] * factor;
        }
    }
}
