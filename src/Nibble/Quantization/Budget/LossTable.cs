using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>
/// The expected loss of every candidate of every matrix. Two measurements make it: the model's KL divergence with the matrix alone
/// rounded to a reference width (the model's own forward pass, nothing assumed), and the error of the layer's output ‖(W − Ŵ)X‖² of
/// each candidate. For small errors the divergence grows as their square, so the second scales the first.
/// </summary>
internal sealed class LossTable(LoadedModel loaded, HfMatrices matrices, Action<QuantizationStep>? progress, CancellationToken cancellation)
{
    /// <summary>Tokens on which the divergence is measured; the output errors take all calibration samples.</summary>
    public const int DivergenceTokens = 4096;

    // Coarse enough to stand clear of rounding noise, fine enough that the divergence is still quadratic.
    private static readonly QuantizationSettings Reference = Registry.Method("rtn").Complete(new() { Method = "rtn", Bits = 3, GroupSize = 128 });

    private readonly Dictionary<string, double[]> _losses = [];
    private int _done;

    /// <summary>The losses of each matrix's candidates, by path.</summary>
    public IReadOnlyDictionary<string, double[]> Measure(IReadOnlyDictionary<string, IReadOnlyList<PlannedTensor>> candidates, IReadOnlyList<int[]> samples)
    {
        Dictionary<string, double> divergences = Divergences(candidates, samples);
        using BlockCalibration calibration = new(loaded.Model, samples, sequential: false);
        calibration.Run((path, statistics) =>
        {
            IPackedWeight packed = Measure(path, candidates[path], statistics, divergences[path]);
            Report(candidates, path);
            return packed;
        }, cancellation: cancellation, wanted: candidates.ContainsKey);
        return _losses;
    }

    private Dictionary<string, double> Divergences(IReadOnlyDictionary<string, IReadOnlyList<PlannedTensor>> candidates, IReadOnlyList<int[]> samples)
    {
        Dictionary<string, double> found = [];
        using SensitivityMeter meter = new(loaded.Model, [.. samples.Take(Math.Max(1, DivergenceTokens / samples[0].Length))]);
        meter.Run((linear, measure) =>
        {
            cancellation.ThrowIfCancellationRequested();
            if (candidates.TryGetValue(linear.Path, out IReadOnlyList<PlannedTensor>? list))
            {
                using Tensor dense = matrices.Load(list[0].Spec);
                using QuantizedWeight weight = Quantize(list[0].Spec, dense, Reference, null);
                found[linear.Path] = measure(WeightPacking.Pack(weight, list[0].Spec, loaded.Backend, ActivationChoice.F32));
                Report(candidates, linear.Path);
            }
        });
        return found;
    }

    private IPackedWeight Measure(string path, IReadOnlyList<PlannedTensor> candidates, GramStatistics statistics, double divergence)
    {
        LinearSpec spec = candidates[0].Spec;
        using Tensor dense = matrices.Load(spec);
        using OutputError error = new(statistics, loaded.Backend);
        using QuantizedWeight reference = Quantize(spec, dense, Reference, null);
        double scale = divergence / Math.Max(error.Of(dense, reference), double.Epsilon);
        _losses[path] = [.. candidates.Select(candidate => scale * ErrorOf(candidate, dense, error, statistics))];
        return loaded.Backend.Prepare(dense);
    }

    private double ErrorOf(PlannedTensor candidate, Tensor dense, OutputError error, GramStatistics statistics)
    {
        cancellation.ThrowIfCancellationRequested();
        using QuantizedWeight weight = Quantize(candidate.Spec, dense, candidate.Settings!, statistics);
        return error.Of(dense, weight);
    }

    private static QuantizedWeight Quantize(LinearSpec spec, Tensor dense, QuantizationSettings settings, CalibrationStatistics? statistics) =>
        Registry.Method(settings.Method).Quantize(spec.WeightName, dense, settings, statistics);

    private void Report(IReadOnlyDictionary<string, IReadOnlyList<PlannedTensor>> candidates, string path) =>
        progress?.Invoke(new(++_done, 2 * candidates.Count, path));
}

/// <summary>The dense matrices of a folder, F32 <c>[out, in]</c>.</summary>
internal sealed class HfMatrices(DenseWeightSource source)
{
    public Tensor Load(LinearSpec spec)
    {
        using Tensor stored = source.Matrix(spec);
        return stored.To(DType.F32);
    }
}
