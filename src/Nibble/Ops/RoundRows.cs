using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>
/// Activations on the grid of 8-bit integers, as F32: x̂ = round(x·127/absmax)·absmax/127 with the absmax of the row. What a product
/// with int8 activations computes with, for training: the gradient passes as if nothing had been rounded.
/// </summary>
public static class RoundRows
{
    /// <summary>x = x + share·(x̂ − x), in place; a row with NaN or infinity becomes NaN.</summary>
    /// <exception cref="ArgumentException">x is not F32, or the share is not in 0 … 1.</exception>
    public static void Forward(IBackend backend, Tensor x, float share)
    {
        Check.Float("round rows", "x", x);
        if (share is not (>= 0 and <= 1))
        {
            IO.Throw.Argument("round rows", $"the share must be from 0 to 1, not {share}");
        }

        backend.Kernels.RoundRows(x, share);
    }

    /// <summary>The definition; the rounding itself is in single precision, as its ties are.</summary>
    internal static void Reference(Tensor x, float share)
    {
        int columns = (int)x.Shape.Columns;
        for (int start = 0; start < x.Shape.Count; start += columns)
        {
            Span<float> row = x.HostSpan<float>().Slice(start, columns);
            float absmax = 0;
            foreach (float value in row)
            {
                absmax = float.IsFinite(value) ? Math.Max(absmax, Math.Abs(value)) : float.NaN;
            }

            foreach (ref float value in row)
            {
                double rounded = absmax == 0 ? 0 : (double)MathF.Round(value * (127 / absmax)) * absmax / 127;
                value = (float)(value + (share * (rounded - value)));
            }
        }
    }
}
