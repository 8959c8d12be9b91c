using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Rows on the grid of 8-bit integers, in place and in part; the grid is that of <see cref="Int8Activations"/>.</summary>
internal unsafe struct RoundRowsJob : ICpuJob
{
    // Below it 127/absmax overflows; such a row is zero next to anything.
    private const float Smallest = 1e-35f;

    public float* X;
    public nint Rows, Columns;
    public float Share;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            Round(X + (row * Columns));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Round(float* x)
    {
        float absmax = Int8Activations.Largest(x, Columns);
        bool finite = float.IsFinite(absmax);
        float inverse = absmax >= Smallest ? 127 / absmax : 0, scale = finite ? absmax / 127 : float.NaN;
        nint i = 0;
        for (; i <= Columns - 8; i += 8)
        {
            Vector256<float> value = Vector256.Load(x + i);
            Vector256<float> rounded = Vector256.Round(value * inverse) * scale;
            (value + (Vector256.Create(Share) * (rounded - value))).Store(x + i);
        }

        for (; i < Columns; i++)
        {
            x[i] += Share * ((MathF.Round(x[i] * inverse) * scale) - x[i]);
        }
    }
}
