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
internal sealed class ScaleSearch(IScaleErrors errors, ActivationFold fold, GramStatistics gram)
{
    private const int Steps = 20;
    private const float Least = 1e-4f;

    // The best few are clipped as well: neighbours are nearly equal, and clipping may prefer the second.
    private const int Finalists = 8;

    /// <summary>Tries all factors; the best of them are clipped as well; ties go to the first.</summary>
    public ScaleChoice Run()
    {
        float[] activations = PerChannel(gram.Magnitudes), weights = PerChannel(errors.MeanWeights());
        double before = errors.Plain(Columns(Ones()));
        List<ScaleChoice> tried = [new(Ones(), 0, false, before, before)];
        foreach (bool duo in new[] { false, true })
        {
            for (int step = 0; step < Steps; step++)
            {
                float ratio = (float)step / Steps;
                float[] factors = Factors(activations, duo ? weights : null, ratio);
                tried.Add(new(factors, ratio, duo, before, errors.Plain(Columns(factors))));
            }
        }

        return tried.OrderBy(choice => choice.After).Take(Finalists).MinBy(choice => errors.Clipped(Columns(choice.Factors)))!;
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

    /// <summary>The factor of each column.</summary>
    private float[] Columns(float[] factors) => [.. Enumerable.Range(0, gram.Columns).Select(i => factors[fold.ChannelOf(i)])];

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
}
