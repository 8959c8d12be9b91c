using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Awq;

/// <summary>What AWQ's search asks about layers that share an input; factors are given for each column.</summary>
internal interface IScaleErrors : IDisposable
{
    /// <summary>Mean over all rows of |w| / largest |w| of its group, for each column.</summary>
    double[] MeanWeights();

    /// <summary>Sum over all outputs of the mean squared error with these factors, each group's range as it is.</summary>
    double Plain(float[] columns);

    /// <summary>The same with the ranges that clipping chooses.</summary>
    double Clipped(float[] columns);
}

/// <summary>Errors of outputs for AWQ's candidates on the processor.</summary>
internal sealed class HostScaleErrors(IReadOnlyList<ScaledLayer> layers, GramStatistics gram) : IScaleErrors
{
    private readonly QuadraticForm _form = new(gram, 0, gram.Columns);

    public void Dispose() => _form.Dispose();

    /// <summary>Mean over all rows of |w| / largest |w| of its group.</summary>
    public double[] MeanWeights()
    {
        double[] sums = new double[gram.Columns];
        foreach (ScaledLayer layer in layers)
        {
            for (nint row = 0; row < layer.Facts.Out; row++)
            {
                ReadOnlySpan<float> values = layer.Weight.Slice(row, 1).HostSpan<float>();
                for (int start = 0; start < values.Length; start += layer.Facts.GroupSize)
                {
                    ReadOnlySpan<float> group = values[start..Math.Min(start + layer.Facts.GroupSize, values.Length)];
                    const float never = 1e-6f;
                    float largest = VectorSearch.AbsMax(group) + never;
                    for (int i = 0; i < group.Length; i++)
                    {
                        sums[start + i] += MathF.Abs(group[i]) / largest;
                    }
                }
            }
        }

        double rows = layers.Sum(layer => (double)layer.Facts.Out);
        return Array.ConvertAll(sums, sum => sum / rows);
    }

    /// <summary>Sum over all outputs of the mean squared error with these factors, each group's range as it is.</summary>
    public double Plain(float[] columns) => Error(columns, layer =>
        (group, _) => RtnMethod.GridOf(group, layer.Facts.Bits, layer.Facts.Symmetric, layer.Facts.ScaleDType));

    /// <summary>The same with the ranges that clipping chooses.</summary>
    public double Clipped(float[] columns)
    {
        GramStatistics divided = new(gram.Tokens, gram.Columns, (double[])gram.Gram.Clone());
        for (long i = 0; i < gram.Columns; i++)
        {
            for (int j = 0; j < gram.Columns; j++)
            {
                divided.Gram[(i * gram.Columns) + j] /= (double)columns[i] * columns[j];
            }
        }

        return Error(columns, layer =>
        {
            using Tensor scaled = Tensor.OnHost(layer.Weight.Shape, DType.F32);
            for (nint row = 0; row < layer.Facts.Out; row++)
            {
                Multiply(layer.Weight.Slice(row, 1).HostSpan<float>(), columns, scaled.Slice(row, 1).HostSpan<float>());
            }

            CodeGrid[] grids = GroupClipping.Find(scaled, layer.Facts, divided);
            return (_, group) => grids[group];
        });
    }

    private double Error(float[] columns, Func<ScaledLayer, FindGrid> grids)
    {
        double sum = 0;
        foreach (ScaledLayer layer in layers)
        {
            FindGrid find = grids(layer);
            using Tensor errors = Tensor.OnHost(layer.Weight.Shape, DType.F32), product = Tensor.OnHost(layer.Weight.Shape, DType.F32);
            Spread.Over(layer.Facts.Out, layer.Facts.In * 8, (first, last) =>
            {
                float[] scaled = new float[columns.Length];
                for (nint row = first; row < last; row++)
                {
                    Multiply(layer.Weight.Slice(row, 1).HostSpan<float>(), columns, scaled);
                    RowError(scaled, row, layer.Facts, columns, find, errors.Slice(row, 1).HostSpan<float>());
                }
            });
            double[] values = new double[layer.Facts.Out];
            _form.OfRows(errors, product, values);
            sum += values.Sum();
        }

        return sum;
    }

    private static void Multiply(ReadOnlySpan<float> values, float[] factors, Span<float> scaled)
    {
        for (int i = 0; i < scaled.Length; i++)
        {
            scaled[i] = values[i] * factors[i];
        }
    }

    /// <summary>error = w − Q(w·s)/s, from w·s.</summary>
    private static void RowError(float[] scaled, nint row, WeightFacts facts, float[] factors, FindGrid find, Span<float> error)
    {
        nint group = row * facts.GroupsPerRow;
        for (int start = 0; start < scaled.Length; start += facts.GroupSize, group++)
        {
            int length = Math.Min(facts.GroupSize, scaled.Length - start);
            ReadOnlySpan<float> part = scaled.AsSpan(start, length);
            GridError.Of(part, find(part, group), error.Slice(start, length));
        }

        for (int i = 0; i < scaled.Length; i++)
        {
            error[i] /= factors[i];
        }
    }
}
