using System.Diagnostics;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>What a plan will cost and give, before any work.</summary>
/// <param name="BytesBefore">Bytes of all tensors of the dense model.</param>
/// <param name="BytesAfter">Bytes of all tensors of the quantized one.</param>
/// <param name="BitsPerWeight"><see cref="WeightFacts.StoredBits"/> of the planned matrices and bits of their repairs, by their elements.</param>
/// <param name="BitsPerParameter">The same of the whole model.</param>
/// <param name="LargestBytes">Bytes of the largest matrix in F32: memory is a few times that.</param>
/// <param name="Seconds">Time of the methods, from a short trial on this machine; null where a method needs calibration.</param>
public sealed record PlanEstimate(long BytesBefore, long BytesAfter, double BitsPerWeight, double BitsPerParameter, long LargestBytes, double? Seconds)
{
    private const int TrialRows = 256;
    private const int TrialColumns = 1024;

    /// <summary>Estimates a plan.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="config">The model's config.</param>
    /// <param name="source">Dtype of the dense checkpoint.</param>
    public static PlanEstimate Of(QuantPlan plan, ModelConfig config, DType source)
    {
        IArchitecture architecture = Registry.Architecture(config);
        long parameters = ModelBuilder.CountParameters(architecture, config);
        long before = parameters * source.Size();
        long dense = plan.Quantized.Sum(tensor => tensor.Count) * source.Size();
        long stored = plan.Quantized.Sum(tensor => plan.Layout.Declare(tensor.Facts!, source).Sum(item => item.Of("x").ByteLength) + tensor.Settings!.RepairBytes(tensor.Spec));
        long after = before - dense + stored;
        return new PlanEstimate(
            before,
            after,
            plan.Quantized.Sum(tensor => (double)tensor.Facts!.StoredBits + (8 * tensor.Settings!.RepairBytes(tensor.Spec))) / Math.Max(1, plan.Quantized.Sum(tensor => tensor.Count)),
            8.0 * after / Math.Max(1, parameters),
            plan.Tensors.Max(tensor => tensor.Count) * sizeof(float),
            Time(plan));
    }

    private static double? Time(QuantPlan plan)
    {
        if (plan.Quantized.Any(tensor => tensor.Settings!.NeedsText))
        {
            return null;
        }

        return plan.Quantized.GroupBy(tensor => tensor.Settings!).Sum(group => group.Sum(tensor => tensor.Count) * SecondsPerElement(group.Key));
    }

    private static double SecondsPerElement(QuantizationSettings settings)
    {
        using Tensor sample = Tensor.OnHost(new Shape(TrialRows, TrialColumns), DType.F32);
        Span<float> values = sample.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            // Numbers without a pattern, as large as weights are: scales of larger ones may not fit F16.
            values[i] = (((i * 40503) & 0xFFFF) - 32768) / 327_680f;
        }

        IQuantizationMethod method = Registry.Method(settings.Method);
        double best = double.MaxValue;
        for (int run = 0; run < 3; run++)
        {
            long start = Stopwatch.GetTimestamp();
            method.Quantize("trial", sample, settings).Dispose();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return best / values.Length;
    }
}
