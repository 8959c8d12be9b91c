using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>LayerNorm over the last dimension (arXiv 1607.06450, eq. 4).</summary>
public static class LayerNorm
{
    /// <summary>y = (x − mean)/√(variance + ε)·weight + bias; y may be x.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y)
    {
        Check.Float("layernorm", "x", x, backend);
        Check.SameShape("layernorm", "x", x, "y", y, backend);
        Check.Vector("layernorm", "weight", weight, x.Shape.Columns);
        Check.Vector("layernorm", "bias", bias, x.Shape.Columns);
        backend.Kernels.LayerNorm(x, weight, bias, epsilon, y);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y)
    {
        int columns = (int)x.Shape.Columns;
        for (int row = 0; row < (int)x.Shape.Rows; row++)
        {
            Span<float> source = x.HostSpan<float>().Slice(row * columns, columns);
            double mean = 0, variance = 0;
            foreach (float value in source)
            {
                mean += (double)value / columns;
            }

            foreach (float value in source)
            {
                variance += (value - mean) * (value - mean) / columns;
            }

            for (int i = 0; i < columns; i++)
            {
                double value = (source[i] - mean) / Math.Sqrt(variance + epsilon) * weight.HostSpan<float>()[i];
                y.HostSpan<float>()[(row * columns) + i] = (float)(value + (bias is null ? 0 : bias.HostSpan<float>()[i]));
            }
        }
    }
}
