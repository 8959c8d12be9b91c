using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>How far a quantized matrix is from the dense one.</summary>
/// <param name="Relative">‖W − Ŵ‖ / ‖W‖ in the Frobenius norm; 0 for a matrix of zeros that stays one.</param>
/// <param name="Largest">Largest difference of an element.</param>
/// <param name="Norm">‖W‖².</param>
public readonly record struct WeightError(double Relative, double Largest, double Norm)
{
    /// <summary>Measures an error.</summary>
    /// <param name="dense">F32 <c>[out, in]</c> on the host.</param>
    /// <param name="weight">Its quantized form.</param>
    public static WeightError Of(Tensor dense, QuantizedWeight weight)
    {
        double[] errors = new double[weight.Out], norms = new double[weight.Out], largest = new double[weight.Out];
        Spread.Over(weight.Out, weight.In, (first, last) =>
        {
            float[] values = new float[weight.In];
            for (nint row = first; row < last; row++)
            {
                weight.DequantizeRow(row, values);
                (errors[row], norms[row], largest[row]) = OfRow(dense.Slice(row, 1).HostSpan<float>(), values);
            }
        });
        double error = errors.Sum(), norm = norms.Sum();
        return new WeightError(error == 0 ? 0 : Math.Sqrt(error / norm), largest.DefaultIfEmpty().Max(), norm);
    }

    private static (double Error, double Norm, double Largest) OfRow(ReadOnlySpan<float> dense, ReadOnlySpan<float> values)
    {
        double error = 0, norm = 0, largest = 0;
        for (int i = 0; i < values.Length; i++)
        {
            double difference = (double)dense[i] - values[i];
            error += difference * difference;
            norm += (double)dense[i] * dense[i];
            largest = Math.Max(largest, Math.Abs(difference));
        }

        return (error, norm, largest);
    }
}
