using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.LowRank;

/// <summary>A quantized matrix and, if the settings ask for one, its repair.</summary>
/// <param name="Weight">Codes and scales.</param>
/// <param name="Repair">What is added to it; null without.</param>
internal readonly record struct RepairedWeight(QuantizedWeight Weight, LowRankPair? Repair) : IDisposable
{
    public void Dispose()
    {
        Weight.Dispose();
        Repair?.Dispose();
    }
}

/// <summary>
/// A method, and the low-rank repair of its error. More than one iteration is LoftQ's alternation (arXiv 2310.08659, algorithm 1): what the pair
/// holds is taken from the matrix before it is quantized again. The alternation does not descend always, so the best iteration counts.
/// </summary>
internal static class RepairedQuantization
{
    public static RepairedWeight Quantize(PlannedTensor planned, Tensor dense, CalibrationStatistics? statistics)
    {
        QuantizationSettings settings = planned.Settings!;
        IQuantizationMethod method = Registry.Method(settings.Method);
        if (settings.RepairRank is not { } rank)
        {
            return new(method.Quantize(planned.Spec.WeightName, dense, settings, statistics), null);
        }

        using RepairSolver solver = new(settings.RepairWeighted == true ? (GramStatistics?)statistics : null);
        ulong seed = CounterRandom.Key(planned.Spec.Path);
        RepairedWeight best = default;
        double least = double.PositiveInfinity;
        for (int i = 0; i < settings.RepairIterations; i++)
        {
            using Tensor target = Copy(dense);
            best.Repair?.TakeFrom(target);
            QuantizedWeight weight = method.Quantize(planned.Spec.WeightName, target, settings, statistics);
            using Tensor error = Difference(dense, weight);
            LowRankPair pair = solver.Nearest(error, rank, seed);
            pair.TakeFrom(error);
            double left = solver.Of(error);
            if (!(left < least))
            {
                weight.Dispose();
                pair.Dispose();
                break;
            }

            if (i > 0)
            {
                best.Dispose();
            }

            (best, least) = (new(weight, pair), left);
        }

        return best;
    }

    private static Tensor Copy(Tensor dense)
    {
        Tensor copy = Tensor.OnHost(dense.Shape, DType.F32);
        dense.HostSpan<float>().CopyTo(copy.HostSpan<float>());
        return copy;
    }

    private static Tensor Difference(Tensor dense, QuantizedWeight weight)
    {
        Tensor difference = weight.Dequantize();
        Span<float> values = difference.HostSpan<float>();
        ReadOnlySpan<float> original = dense.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = original[i] - values[i];
        }

        return difference;
    }
}
