using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.LowRank;

/// <summary>A quantized matrix and, if the settings ask for one, its repair.</summary>
/// <param name="Weight">Codes and scales.</param>
/// <param name="Repair">What is added to it; null without.</param>
/// <param name="Error">The weight's error where the device that made it told it; null: nobody measured it yet.</param>
internal readonly record struct RepairedWeight(QuantizedWeight Weight, LowRankPair? Repair, WeightError? Error = null) : IDisposable
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
    /// <summary>Quantizes a matrix, on a device where there is one; the repair is found on the processor.</summary>
    /// <param name="planned">The matrix.</param>
    /// <param name="dense">Its values on the host, F32; for a device without a repair any floating point dtype.</param>
    /// <param name="statistics">What calibration learned about the inputs.</param>
    /// <param name="device">Runs the method; null: the processor.</param>
    public static RepairedWeight Quantize(PlannedTensor planned, Tensor dense, CalibrationStatistics? statistics, IMatrixQuantizer? device = null)
    {
        QuantizationSettings settings = planned.Settings!;
        if (settings.RepairRank is not { } rank)
        {
            return Made(planned, dense, statistics, device);
        }

        using RepairSolver solver = new(settings.RepairWeighted == true ? (GramStatistics?)statistics : null);
        ulong seed = CounterRandom.Key(planned.Spec.Path);
        RepairedWeight best = default;
        double least = double.PositiveInfinity;
        for (int i = 0; i < settings.RepairIterations; i++)
        {
            using Tensor target = Copy(dense);
            best.Repair?.TakeFrom(target);
            QuantizedWeight weight = Made(planned, target, statistics, device).Weight;
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

    private static RepairedWeight Made(PlannedTensor planned, Tensor dense, CalibrationStatistics? statistics, IMatrixQuantizer? device)
    {
        (string name, QuantizationSettings settings) = (planned.Spec.WeightName, planned.Settings!);
        if (device is null || settings.Compensate == true)
        {
            return new(Registry.Method(settings.Method).Quantize(name, dense, settings, statistics), null);
        }

        (QuantizedWeight weight, WeightError error) = device.Quantize(name, dense, settings, statistics);
        return new(weight, null, error);
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
