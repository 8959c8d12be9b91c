using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Rotary embedding in place: (a, b) → (a·cos − b·sin, b·cos + a·sin) for a in the first half, b in the second.</summary>
internal unsafe struct RopeJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X, Cos, Sin;
    public int* Positions;
    public nint Rows, Heads, Half;

    /// <summary>Turns the other way: the gradient.</summary>
    public bool Backward;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Heads * Half * 2));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Heads * Half * 2);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            nint angle = Positions[row] * Half;
            for (nint head = 0; head < Heads; head++)
            {
                Turn(X + (((row * Heads) + head) * 2 * Half), Cos + angle, Sin + angle);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Turn(float* x, float* cos, float* sin)
    {
        float* y = x + Half;
        float sign = Backward ? -1 : 1;
        nint i = 0;
        for (; i <= Half - S.Count; i += S.Count)
        {
            V a = S.Load(x + i), b = S.Load(y + i), c = S.Load(cos + i), s = S.Multiply(S.Load(sin + i), S.Set(sign));
            S.Store(S.Subtract(S.Multiply(a, c), S.Multiply(b, s)), x + i);
            S.Store(S.MultiplyAdd(b, c, S.Multiply(a, s)), y + i);
        }

        for (; i < Half; i++)
        {
            (float c, float s) = (cos[i], sign * sin[i]);
            (x[i], y[i]) = ((x[i] * c) - (y[i] * s), (y[i] * c) + (x[i] * s));
        }
    }
}
