using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>RMSNorm over the last dimension (arXiv 1910.07467, eq. 4).</summary>
public static class RmsNorm
{
    /// <summary>y = x/√(mean of x² + ε)·weight; weight may be null, y may be x.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, Tensor? weight, float epsilon, Tensor y)
    {
        Check.Float("rmsnorm", "x", x, backend);
        Check.SameShape("rmsnorm", "x", x, "y", y, backend);
        Check.Vector("rmsnorm", "weight", weight, x.Shape.Columns);
        backend.Kernels.RmsNorm(x, weight, epsilon, y);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor x, Tensor? weight, float epsilon, Tensor y)
    {
        int columns = (int)x.Shape.Columns;
        for (int row = 0; row < (int)x.Shape.Rows; row++)
        {
            Span<float> source = x.HostSpan<float>().Slice(row * columns, columns);
            double squares = 0;
            foreach (float value in source)
            {
                squares += (double)value * value / columns;
            }

            for (int i = 0; i < columns; i++)
            {
                double factor = weight is null ? 1 : weight.HostSpan<float>()[i];
                y.HostSpan<float>()[(row * columns) + i] = (float)(source[i] / Math.Sqrt(squares + epsilon) * factor);
            }
        }
    }
}
