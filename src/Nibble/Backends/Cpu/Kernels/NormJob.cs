using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>LayerNorm (centered) and RMSNorm, a row at a time; y may be x.</summary>
internal unsafe struct NormJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X, Weight, Bias, Y;
    public nint Rows, Columns;
    public float Epsilon;
    public bool Centered;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            float* x = X + (row * Columns);
            // Two passes: the one-pass form Σx² − (Σx)²/n loses all digits when the mean is large.
            float mean = Centered ? Reduce<S, V>.Sum(x, Columns) / Columns : 0;
            float variance = Reduce<S, V>.SumOfSquares(x, mean, Columns) / Columns;
            Normalize(x, Y + (row * Columns), mean, 1 / MathF.Sqrt(variance + Epsilon));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Normalize(float* x, float* y, float mean, float scale)
    {
        V center = S.Set(mean), factor = S.Set(scale);
        nint i = 0;
        for (; i <= Columns - S.Count; i += S.Count)
        {
            V value = S.Multiply(S.Subtract(S.Load(x + i), center), factor);
            value = Weight == null ? value : S.Multiply(value, S.Load(Weight + i));
            S.Store(Bias == null ? value : S.Add(value, S.Load(Bias + i)), y + i);
        }

        for (; i < Columns; i++)
        {
            float value = (x[i] - mean) * scale * (Weight == null ? 1 : Weight[i]);
            y[i] = value + (Bias == null ? 0 : Bias[i]);
        }
    }
}
