using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>A factor, and perhaps a shift, for each column: what DoRA's magnitudes and IA3's vectors do.</summary>
public static class ScaleColumns
{
    /// <summary>x[r][c] = x[r][c]·factor[c] + shift[c], in place.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, Tensor factor, Tensor? shift = null)
    {
        Check.Float("scale columns", "x", x);
        Check.Vector("scale columns", "factor", factor, x.Shape.Columns);
        Check.Vector("scale columns", "shift", shift, x.Shape.Columns);
        backend.Kernels.ScaleColumns(x, factor, shift);
    }

    /// <summary>The definition.</summary>
    internal static void Reference(Tensor x, Tensor factor, Tensor? shift)
    {
        Span<float> values = x.HostSpan<float>();
        int columns = (int)x.Shape.Columns;
        for (int i = 0; i < values.Length; i++)
        {
            double moved = shift is null ? 0 : shift.HostSpan<float>()[i % columns];
            values[i] = (float)(((double)values[i] * factor.HostSpan<float>()[i % columns]) + moved);
        }
    }
}
