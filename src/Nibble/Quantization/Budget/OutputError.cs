using Nibble.Backends;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>‖(W − Ŵ)X‖² / tokens for one layer, from the Gram matrix of its inputs: tr(D·H·Dᵀ) with D = W − Ŵ.</summary>
internal sealed class OutputError : IDisposable
{
    private readonly IBackend _backend;
    private readonly IPackedWeight _gram;

    /// <summary>Packs the Gram matrix of a layer's inputs.</summary>
    public OutputError(GramStatistics statistics, IBackend backend)
    {
        _backend = backend;
        double tokens = Math.Max(1, statistics.Tokens);
        float[] values = [.. statistics.Gram.Select(value => (float)(value / tokens))];
        using Tensor gram = Tensor.From<float>(new Shape(statistics.Columns, statistics.Columns), DType.F32, values);
        _gram = backend.Prepare(gram);
    }

    /// <summary>The error of one quantized form of a matrix.</summary>
    public double Of(Tensor dense, QuantizedWeight weight)
    {
        using Tensor difference = weight.Dequantize();
        Span<float> values = difference.HostSpan<float>();
        ReadOnlySpan<float> original = dense.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = original[i] - values[i];
        }

        using Tensor product = Tensor.OnHost(difference.Shape, DType.F32);
        Ops.MatMul.Forward(_backend, difference, _gram, null, product);
        double sum = 0;
        ReadOnlySpan<float> weighted = product.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            sum += (double)values[i] * weighted[i];
        }

        // Rounding may leave a tiny negative number where there is no error at all.
        return Math.Max(0, sum);
    }

    /// <inheritdoc/>
    public void Dispose() => _gram.Dispose();
}
