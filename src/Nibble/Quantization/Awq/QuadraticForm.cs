using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Awq;

/// <summary>
/// Mean squares of outputs from the Gram matrix of inputs: for each row d of a matrix, the mean of (d·x)² over all inputs x is
/// d·H·dᵀ with H = Σ xxᵀ / tokens. One product of a matrix instead of a pass over the calibration text.
/// </summary>
internal sealed class QuadraticForm : IDisposable
{
    private readonly CpuBackend _backend = new();
    private readonly IPackedWeight _matrix;

    /// <summary>The part of H for the columns from <paramref name="first"/> on.</summary>
    public QuadraticForm(GramStatistics gram, int first, int count)
    {
        using Tensor part = Tensor.OnHost(new Shape(count, count), DType.F32);
        double tokens = Math.Max(1, gram.Tokens);
        for (int i = 0; i < count; i++)
        {
            Span<float> row = part.Slice(i, 1).HostSpan<float>();
            for (int j = 0; j < count; j++)
            {
                row[j] = (float)(gram.Gram[((long)(first + i) * gram.Columns) + first + j] / tokens);
            }
        }

        _matrix = _backend.Prepare(part);
    }

    /// <summary>d·H·dᵀ of each row of <paramref name="d"/>, F32 <c>[rows, columns]</c>; <paramref name="product"/> is room of the same shape.</summary>
    public void OfRows(Tensor d, Tensor product, double[] values)
    {
        Ops.MatMul.Forward(_backend, d, _matrix, null, product);
        Methods.Spread.Over(d.Shape[0], d.Shape[1], (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                ReadOnlySpan<float> left = d.Slice(row, 1).HostSpan<float>(), right = product.Slice(row, 1).HostSpan<float>();
                double sum = 0;
                for (int i = 0; i < left.Length; i++)
                {
                    sum += (double)left[i] * right[i];
                }

                values[row] = sum;
            }
        });
    }

    public void Dispose()
    {
        _matrix.Dispose();
        _backend.Dispose();
    }
}
