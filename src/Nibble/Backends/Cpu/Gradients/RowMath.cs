using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>Elementwise steps over a row that backward kernels are put together from; rows are short, so they stay in the first-level cache.</summary>
internal static unsafe class RowMath<S, V>
    where S : struct, ILanes<V>
    where V : unmanaged
{
    /// <summary>y = a·b; b null means ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(float* a, float* b, float* y, nint count)
    {
        if (b == null)
        {
            new Span<float>(a, (int)count).CopyTo(new Span<float>(y, (int)count));
            return;
        }

        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.Multiply(S.Load(a + i), S.Load(b + i)), y + i);
        }

        for (; i < count; i++)
        {
            y[i] = a[i] * b[i];
        }
    }

    /// <summary>y += a·b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddProduct(float* a, float* b, float* y, nint count)
    {
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.MultiplyAdd(S.Load(a + i), S.Load(b + i), S.Load(y + i)), y + i);
        }

        for (; i < count; i++)
        {
            y[i] += a[i] * b[i];
        }
    }

    /// <summary>y = (x − center)·factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Normalize(float* x, float center, float factor, float* y, nint count)
    {
        V centers = S.Set(center), factors = S.Set(factor);
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.Multiply(S.Subtract(S.Load(x + i), centers), factors), y + i);
        }

        for (; i < count; i++)
        {
            y[i] = (x[i] - center) * factor;
        }
    }

    /// <summary>y += x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(float* x, float* y, nint count)
    {
        nint i = 0;
        for (; i <= count - S.Count; i += S.Count)
        {
            S.Store(S.Add(S.Load(x + i), S.Load(y + i)), y + i);
        }

        for (; i < count; i++)
        {
            y[i] += x[i];
        }
    }
}
