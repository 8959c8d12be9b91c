using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Awq;

/// <summary>One layer whose columns are scaled.</summary>
/// <param name="Weight">F32 <c>[out, in]</c>, before scaling.</param>
/// <param name="Facts">What it will become.</param>
internal readonly record struct ScaledLayer(Tensor Weight, WeightFacts Facts);

/// <summary>The factors that a search chose.</summary>
/// <param name="Factors">One for each channel.</param>
/// <param name="Ratio">The exponent of the activations.</param>
/// <param name="Duo">Divided by the weights' share as well.</param>
/// <param name="Before">Mean squared error of the outputs without scaling.</param>
/// <param name="After">With the factors.</param>
internal sealed record ScaleChoice(float[] Factors, double Ratio, bool Duo, double Before, double After);

/// <summary>
/// AWQ's grid search (arXiv 2306.00978, section 3.2, equation 5): factors s = mean|x|^r for r = 0, 1/20 … 19/20, divided by the
/// geometric middle of their range; those are taken for which Q(W·s)/s gives outputs nearest to W's. Also tried is what AutoAWQ calls
/// duo scaling: mean|x|^r / mean(|w| / group's largest)^(1 − r).
/// </summary>
internal sealed class ScaleSearch(IReadOnlyList<ScaledLayer> layers, ActivationFold fold, GramStatistics gram)
{
    private const int Steps = 20;
    private const float Least = 1e-4f;

    // The best few are clipped as well: neighbours are nearly equal, and clipping may prefer the second.
    private const int Finalists = 4;

    /// <summary>Tries all factors; the best of them are clipped as well; ties go to the first.</summary>
    public ScaleChoice Run()
    {
        float[] activations = PerChannel(gram.Magnitudes), weights = PerChannel(MeanWeights());
        using QuadraticForm form = new(gram, 0, gram.Columns);
        double before = Error(form, Ones());
        List<ScaleChoice> tried = [new(Ones(), 0, false, before, before)];
        foreach (bool duo in new[] { false, true })
        {
            for (int step = 0; step < Steps; step++)
            {
                float ratio = (float)step / Steps;
                float[] factors = Factors(activations, duo ? weights : null, ratio);
                tried.Add(new(factors, ratio, duo, before, Error(form, factors)));
            }
        }

        return tried.OrderBy(choice => choice.After).Take(Finalists).MinBy(choice => ClippedError(form, choice.Factors))!;
    }

    private static float[] Factors(float[] activations, float[]? weights, float ratio)
    {
        float[] factors = new float[activations.Length];
        for (int i = 0; i < factors.Length; i++)
        {
            float power = MathF.Pow(activations[i], ratio);
            factors[i] = MathF.Max(weights is null ? power : power / (MathF.Pow(weights[i], 1 - ratio) + Least), Least);
        }

        float middle = MathF.Sqrt(factors.Max() * factors.Min());
        return Array.ConvertAll(factors, factor => float.IsFinite(factor / middle) ? factor / middle : 1);
    }

    private float[] Ones()
    {
        float[] ones = new float[fold.Channels];
        Array.Fill(ones, 1);
        return ones;
    }

    /// <summary>The mean of the columns that read each channel.</summary>
    private float[] PerChannel(double[] columns)
    {
        double[] sums = new double[fold.Channels];
        for (int i = 0; i < columns.Length; i++)
        {
            sums[fold.ChannelOf(i)] += columns[i];
        }

        return Array.ConvertAll(sums, sum => (float)(sum / fold.Repeats));
    }

    /// <summary>Mean over all rows of |w| / largest |w| of its group.</summary>
    private double[] MeanWeights()
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
    private double Error(QuadraticForm form, float[] factors) => Error(form, factors, (layer, _) =>
        (group, _) => RtnMethod.GridOf(group, layer.Facts.Bits, layer.Facts.Symmetric, layer.Facts.ScaleDType));

    /// <summary>The same with the ranges that clipping chooses.</summary>
    private double ClippedError(QuadraticForm form, float[] factors)
    {
        GramStatistics divided = new(gram.Tokens, gram.Columns, (double[])gram.Gram.Clone());
        for (long i = 0; i < gram.Columns; i++)
        {
            for (int j = 0; j < gram.Columns; j++)
            {
                divided.Gram[(i * gram.Columns) + j] /= (double)factors[fold.ChannelOf((int)i)] * factors[fold.ChannelOf(j)];
            }
        }

        return Error(form, factors, (layer, columns) =>
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

    private double Error(QuadraticForm form, float[] factors, Func<ScaledLayer, float[], FindGrid> grids)
    {
        float[] columns = [.. Enumerable.Range(0, gram.Columns).Select(i => factors[fold.ChannelOf(i)])];
        double sum = 0;
        foreach (ScaledLayer layer in layers)
        {
            FindGrid find = grids(layer, columns);
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
            form.OfRows(errors, product, values);
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
