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
    public static WeightError Of(Tensor dense, QuantizedWeight weight) => Of(dense, weight.DequantizeRow);

    /// <summary>Measures the error of a weight with its repair.</summary>
    internal static WeightError Of(Tensor dense, QuantizedWeight weight, LowRank.LowRankPair repair)
    {
        using Tensor whole = weight.Dequantize();
        repair.AddTo(whole);
        return Of(dense, (row, values) => whole.Slice(row, 1).HostSpan<float>().CopyTo(values));
    }

    private static WeightError Of(Tensor dense, RowReader read)
    {
        double[] errors = new double[dense.Shape[0]], norms = new double[dense.Shape[0]], largest = new double[dense.Shape[0]];
        Spread.Over(dense.Shape[0], dense.Shape[1], (first, last) =>
        {
            float[] values = new float[dense.Shape[1]];
            for (nint row = first; row < last; row++)
            {
                read(row, values);
                (errors[row], norms[row], largest[row]) = OfRow(dense.Slice(row, 1).HostSpan<float>(), values);
            }
        });
        double error = errors.Sum(), norm = norms.Sum();
        return new WeightError(error == 0 ? 0 : Math.Sqrt(error / norm), largest.DefaultIfEmpty().Max(), norm);
    }

    private delegate void RowReader(nint row, Span<float> values);

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
