using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Quantization;
using Nibble.Quantization.Awq;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>Errors of outputs for AWQ's candidates on a card: mean squares from the Gram matrix of the inputs, as <see cref="HostScaleErrors"/> has them.</summary>
internal sealed class CudaScaleErrors : IScaleErrors
{
    private const int GroupsPerBlock = 8, Threads = 32 * GroupsPerBlock, RowsPerChunk = 64;
    private readonly CachingMemory _memory;
    private readonly CudaGram _gram;
    private readonly double _tokens;
    private readonly List<(CudaMatrix Matrix, WeightFacts Facts)> _layers = [];

    public CudaScaleErrors(CachingMemory memory, IReadOnlyList<(IPackedWeight Dense, WeightFacts Facts)> layers, CudaGram gram, long tokens)
    {
        (_memory, _gram, _tokens) = (memory, gram, Math.Max(1, tokens));
        try
        {
            foreach ((IPackedWeight dense, WeightFacts facts) in layers)
            {
                DenseCudaPacking packing = (DenseCudaPacking)dense;
                _layers.Add((CudaMatrix.Of(memory, packing.Argument.Codes, packing.DType, dense.Out, dense.In), facts));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public double[] MeanWeights()
    {
        using CudaStorage sums = _memory.Rent((nint)_gram.Columns * sizeof(double), "calibration");
        _memory.Device.Clear(sums.Address, sums.ByteLength);
        foreach ((CudaMatrix matrix, WeightFacts facts) in _layers)
        {
            nint groups = matrix.Rows * facts.GroupsPerRow, chunks = (matrix.Rows + RowsPerChunk - 1) / RowsPerChunk;
            using CudaStorage shares = _memory.Rent(matrix.Count * sizeof(float), "calibration"), partial = _memory.Rent(chunks * matrix.Columns * sizeof(float), "calibration");
            matrix.Launch("shares_of_largest", Groups(groups), matrix.Dense.Address, shares.Address, matrix.Columns, facts.GroupSize, facts.GroupsPerRow, groups);
            matrix.Launch("magnitude_chunks", CudaGrid.Columns(matrix.Columns, chunks), shares.Address, 0, partial.Address, matrix.Columns, matrix.Rows, (nint)RowsPerChunk);
            matrix.Launch("add_magnitudes", CudaGrid.Elements(matrix.Columns), partial.Address, sums.Address, matrix.Columns, chunks);
        }

        double rows = _layers.Sum(layer => (double)layer.Matrix.Rows);
        return Array.ConvertAll(_memory.Download<double>(sums), sum => sum / rows);
    }

    /// <inheritdoc/>
    public double Plain(float[] columns) => Error(columns, clipped: false);

    /// <inheritdoc/>
    public double Clipped(float[] columns) => Error(columns, clipped: true);

    /// <inheritdoc/>
    public void Dispose() => _layers.ForEach(layer => layer.Matrix.Dispose());

    /// <summary>The grids of a matrix with clipped ranges, as scales and zero points; the matrix keeps them.</summary>
    public static (CudaStorage Scales, CudaStorage Offsets) ClippedGrids(CachingMemory memory, CudaMatrix matrix, WeightFacts facts, CudaGram gram)
    {
        nint groups = matrix.Rows * facts.GroupsPerRow;
        CudaStorage scales = matrix.Floats(groups), offsets = matrix.Floats(groups);
        using CudaStorage errors = memory.Rent(matrix.Count * sizeof(float), "calibration"), product = memory.Rent(matrix.Count * sizeof(float), "calibration");
        using CudaStorage steps = BestSteps(memory, matrix, facts, gram, 0, errors.Address, product.Address);
        Round(matrix, facts, 0, steps.Address, 0, 0, scales.Address, offsets.Address);
        return (scales, offsets);
    }

    private double Error(float[] columns, bool clipped)
    {
        double sum = 0;
        using CudaStorage factors = _memory.Upload<float>(columns, "calibration");
        foreach ((CudaMatrix matrix, WeightFacts facts) in _layers)
        {
            using CudaStorage errors = _memory.Rent(matrix.Count * sizeof(float), "calibration"), product = _memory.Rent(matrix.Count * sizeof(float), "calibration");
            using CudaStorage? steps = clipped ? BestSteps(_memory, matrix, facts, _gram, factors.Address, errors.Address, product.Address) : null;
            Round(matrix, facts, factors.Address, steps?.Address ?? 0, 0, errors.Address, 0, 0);
            Multiply(_memory, matrix, errors.Address, product.Address, _gram, 0, matrix.Columns);
            using CudaStorage dots = _memory.Rent(matrix.Rows * sizeof(double), "calibration");
            matrix.Launch("row_dots", new LaunchShape(matrix.Rows, Threads), errors.Address, product.Address, dots.Address, matrix.Columns);
            sum += _memory.Download<double>(dots).Sum();
        }

        return sum / _tokens;
    }

    /// <summary>The step of each group whose share of the output changes least.</summary>
    private static CudaStorage BestSteps(CachingMemory memory, CudaMatrix matrix, WeightFacts facts, CudaGram gram, nint factors, nint errors, nint product)
    {
        nint groups = matrix.Rows * facts.GroupsPerRow;
        CudaStorage steps = memory.Rent(groups * sizeof(int), "calibration");
        using CudaStorage least = memory.Rent(groups * sizeof(float), "calibration");
        for (int step = 0; step < GroupClipping.Tried; step++)
        {
            Round(matrix, facts, factors, 0, step, errors, 0, 0);
            for (nint start = 0; start < matrix.Columns; start += facts.GroupSize)
            {
                Multiply(memory, matrix, errors, product, gram, start, nint.Min(facts.GroupSize, matrix.Columns - start));
            }

            matrix.Launch("keep_least", Groups(groups), errors, product, least.Address, steps.Address, step, matrix.Columns, facts.GroupSize, facts.GroupsPerRow, groups);
        }

        return steps;
    }

    private static void Round(CudaMatrix matrix, WeightFacts facts, nint factors, nint steps, int step, nint errors, nint scales, nint offsets)
    {
        nint groups = matrix.Rows * facts.GroupsPerRow;
        matrix.Launch(
            "scaled_errors", Groups(groups), matrix.Dense.Address, factors, steps, step, errors, scales, offsets, matrix.Columns, facts.GroupSize, facts.GroupsPerRow, groups,
            (int)(facts.Symmetric ? CudaGridKind.Symmetric : CudaGridKind.Asymmetric), facts.Bits, (int)CudaMatrix.NumberOf(facts.ScaleDType), matrix.Flags);
    }

    /// <summary>product[:, part] = errors[:, part]·H[part, part] for some columns; H is symmetric.</summary>
    private static void Multiply(CachingMemory memory, CudaMatrix matrix, nint errors, nint product, CudaGram gram, nint start, nint count)
    {
        nint n = matrix.Columns;
        memory.Device.Multiply(new GemmCall(
            gram.Address + (((start * n) + start) * sizeof(float)), errors + (start * sizeof(float)), product + (start * sizeof(float)), 0, count, matrix.Rows, count, false, false, n, n, n, DType.F32, Add: false));
    }

    private static LaunchShape Groups(nint groups) => new((groups + GroupsPerBlock - 1) / GroupsPerBlock, Threads);
}
