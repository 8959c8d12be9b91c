using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Softmax over the last dimension.</summary>
public static class Softmax
{
    /// <summary>In place, stable for any finite input.</summary>
    /// <exception cref="ArgumentException">x is not F32.</exception>
    public static void Forward(IBackend backend, Tensor x)
    {
        Check.Float("softmax", "x", x);
        backend.Kernels.Softmax(x);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor x)
    {
        int columns = (int)x.Shape.Columns;
        for (int row = 0; row < (int)x.Shape.Rows; row++)
        {
            Span<float> values = x.HostSpan<float>().Slice(row * columns, columns);
            double largest = double.NegativeInfinity, sum = 0;
            foreach (float value in values)
            {
                largest = Math.Max(largest, value);
            }

            foreach (float value in values)
            {
                sum += Math.Exp(value - largest);
            }

            foreach (ref float value in values)
            {
                value = (float)(Math.Exp(value - largest) / sum);
            }
        }
    }
}
