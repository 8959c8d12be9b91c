using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.LowRank;

/// <summary>
/// Finds the pair B·A of a given rank that is nearest to an error E = W − Ŵ: without knowledge of the inputs its largest singular parts (Eckart and Young; what
/// LoftQ, arXiv 2310.08659, starts with), with the inputs' second moments H the pair of least ‖(E − BA)X‖² = tr((E − BA)H(E − BA)ᵀ)
/// (QERA, arXiv 2410.06040, theorem 1). That minimum is B·A = U·Uᵀ·E with U the leading eigenvectors of E·H·Eᵀ, so no root and no inverse of H is needed.
/// </summary>
internal sealed class RepairSolver : IDisposable
{
    // A little of the mean energy for every input, so that inputs that the text never used do not count for nothing.
    private const double Damping = 0.01;

    private readonly CpuBackend _backend = new(new CpuOptions(null));
    private readonly Backends.IPackedWeight? _gram;

    /// <summary>Prepares for one layer; null knows nothing about its inputs.</summary>
    public RepairSolver(GramStatistics? statistics)
    {
        if (statistics is null)
        {
            return;
        }

        int columns = statistics.Columns;
        double tokens = Math.Max(1, statistics.Tokens), mean = 0;
        for (long i = 0; i < columns; i++)
        {
            mean += statistics.Gram[(i * columns) + i] / tokens / columns;
        }

        using Tensor gram = Tensor.OnHost(new Shape(columns, columns), DType.F32);
        Span<float> values = gram.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)((statistics.Gram[i] / tokens) + (i % (columns + 1) == 0 ? Damping * mean : 0));
        }

        _gram = _backend.Prepare(gram);
    }

    /// <summary>The nearest pair, rounded to its stored form.</summary>
    public LowRankPair Nearest(Tensor error, int rank, ulong seed)
    {
        int columns = (int)error.Shape[1], rows = (int)error.Shape[0];
        float[] a = new float[rank * columns], b = new float[rows * rank];
        if (_gram is null)
        {
            TruncatedSvd svd = TruncatedSvd.Of(error, rank, seed);
            Fill(a, b, svd.Left, [.. svd.Right.Select((value, i) => value * svd.Values[i / columns])], svd.Values.Length, rank);
        }
        else
        {
            using Tensor energy = Energy(error);
            TruncatedSvd svd = TruncatedSvd.Of(energy, rank, seed);
            Fill(a, b, svd.Left, Project(svd.Left, error, svd.Values.Length), svd.Values.Length, rank);
        }

        return LowRankPair.Of(a, b, rank);
    }

    /// <summary>The squared error of a difference: of the outputs where the inputs are known, of the weights where they are not.</summary>
    public double Of(Tensor difference)
    {
        using Tensor? weighted = _gram is null ? null : Weighted(difference);
        ReadOnlySpan<float> left = difference.HostSpan<float>(), right = (weighted ?? difference).HostSpan<float>();
        double sum = 0;
        for (int i = 0; i < left.Length; i++)
        {
            sum += (double)left[i] * right[i];
        }

        return Math.Max(0, sum);
    }

    public void Dispose()
    {
        _gram?.Dispose();
        _backend.Dispose();
    }

    /// <summary>E·H.</summary>
    private Tensor Weighted(Tensor error)
    {
        Tensor product = Tensor.OnHost(error.Shape, DType.F32);
        Ops.MatMul.Forward(_backend, error, _gram!, null, product);
        return product;
    }

    /// <summary>E·H·Eᵀ.</summary>
    private Tensor Energy(Tensor error)
    {
        using Tensor weighted = Weighted(error);
        using Backends.IPackedWeight packed = _backend.Prepare(error);
        Tensor energy = Tensor.OnHost(new Shape(error.Shape[0], error.Shape[0]), DType.F32);
        Ops.MatMul.Forward(_backend, weighted, packed, null, energy);
        return energy;
    }

    /// <summary>Uᵀ·E: U <c>[rows, rank]</c>.</summary>
    private static double[] Project(double[] left, Tensor error, int rank)
    {
        int columns = (int)error.Shape[1];
        double[] right = new double[rank * columns];
        ReadOnlySpan<float> values = error.HostSpan<float>();
        for (int row = 0; row < (int)error.Shape[0]; row++)
        {
            ReadOnlySpan<float> line = values.Slice(row * columns, columns);
            for (int r = 0; r < rank; r++)
            {
                double factor = left[(row * rank) + r];
                Span<double> sums = right.AsSpan(r * columns, columns);
                for (int k = 0; k < columns; k++)
                {
                    sums[k] += factor * line[k];
                }
            }
        }

        return right;
    }

    /// <summary>Both matrices share the lengths of the parts, so that neither loses digits when it is rounded.</summary>
    private static void Fill(float[] a, float[] b, double[] left, double[] right, int known, int rank)
    {
        int columns = a.Length / rank, rows = b.Length / rank;
        for (int r = 0; r < known; r++)
        {
            double length = Math.Sqrt(Math.Sqrt(right.AsSpan(r * columns, columns).ToArray().Sum(value => value * value)));
            for (int k = 0; k < columns && length > 0; k++)
            {
                a[(r * columns) + k] = (float)(right[(r * columns) + k] / length);
            }

            for (int row = 0; row < rows; row++)
            {
                b[(row * rank) + r] = (float)(left[(row * known) + r] * length);
            }
        }
    }
}
