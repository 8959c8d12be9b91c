using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>
/// The expected loss of every candidate of every matrix. Two measurements make it: the error of the layer's output ‖(W − Ŵ)X‖² of each
/// candidate, and the model's KL divergence with the matrix alone in one of its candidates (the model's own forward pass, nothing assumed), for one candidate of
/// each width up to 4 bits. The other candidates are scaled from the measured one whose output error is nearest: the divergence grows as the error's square.
/// </summary>
internal sealed class LossTable(LoadedModel loaded, HfMatrices matrices, Action<QuantizationStep>? progress, CancellationToken cancellation)
{
    /// <summary>Tokens on which the divergence is measured; the output errors take all calibration samples.</summary>
    public const int DivergenceTokens = 4096;

    // Finer codes change predictions by less than what can be told from rounding; coarser ones are what budgets are about.
    private const int FinestReference = 4, ReferenceGroup = 128;

    private readonly Dictionary<string, double[]> _errors = [], _losses = [];
    private readonly Dictionary<string, List<(int Index, IPackedWeight Weight)>> _references = [];
    private int _done;

    /// <summary>The losses of each matrix's candidates, by path.</summary>
    public IReadOnlyDictionary<string, double[]> Measure(IReadOnlyDictionary<string, IReadOnlyList<PlannedTensor>> candidates, IReadOnlyList<int[]> samples)
    {
        try
        {
            using (BlockCalibration calibration = new(loaded.Model, samples, sequential: false))
            {
                calibration.Run((path, statistics) => MeasureErrors(path, candidates[path], statistics, candidates.Count), cancellation: cancellation, wanted: candidates.ContainsKey);
            }

            using SensitivityMeter meter = new(loaded.Model, [.. samples.Take(Math.Max(1, DivergenceTokens / samples[0].Length))]);
            meter.Run((linear, measure) => MeasureLosses(linear.Path, measure, candidates.Count));
            return _losses;
        }
        finally
        {
            foreach ((_, IPackedWeight weight) in _references.Values.SelectMany(list => list))
            {
                weight.Dispose();
            }
        }
    }

    /// <summary>Candidates whose divergence is measured: of each width up to 4 bits the one whose group is nearest to the usual one.</summary>
    private static HashSet<int> References(IReadOnlyList<PlannedTensor> candidates)
    {
        int coarsest = candidates.Min(item => item.Facts!.Bits);
        return [.. candidates.Index()
            .Where(item => item.Item.Facts!.Bits <= Math.Max(FinestReference, coarsest))
            .GroupBy(item => item.Item.Facts!.Bits)
            .Select(group => group.MinBy(item => Math.Abs(item.Item.Facts!.GroupSize - ReferenceGroup)).Index)];
    }

    private IPackedWeight MeasureErrors(string path, IReadOnlyList<PlannedTensor> candidates, GramStatistics statistics, int matricesInAll)
    {
        LinearSpec spec = candidates[0].Spec;
        using Tensor dense = matrices.Load(spec);
        using OutputError error = new(statistics, loaded.Backend);
        HashSet<int> references = References(candidates);
        double[] errors = _errors[path] = new double[candidates.Count];
        _references[path] = [];
        for (int i = 0; i < errors.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            QuantizationSettings settings = candidates[i].Settings!;
            using QuantizedWeight weight = Registry.Method(settings.Method).Quantize(spec.WeightName, dense, settings, statistics);
            errors[i] = error.Of(dense, weight);
            if (references.Contains(i))
            {
                _references[path].Add((i, WeightPacking.Pack(weight, spec, loaded.Backend, ActivationChoice.F32)));
            }
        }

        Report(path, matricesInAll);
        return loaded.Backend.Prepare(dense);
    }

    private void MeasureLosses(string path, Func<IPackedWeight, double> measure, int matricesInAll)
    {
        cancellation.ThrowIfCancellationRequested();
        if (!_references.Remove(path, out List<(int Index, IPackedWeight Weight)>? references))
        {
            return;
        }

        double[] errors = _errors[path];
        (double Error, double Loss)[] known = [.. references.Select(item => (Math.Max(errors[item.Index], double.Epsilon), measure(item.Weight)))];
        _losses[path] = [.. errors.Select(error =>
        {
            (double nearest, double loss) = known.MinBy(item => Math.Abs(Math.Log(Math.Max(error, double.Epsilon) / item.Error)));
            return loss * error / nearest;
        })];
        Report(path, matricesInAll);
    }

    private void Report(string path, int matricesInAll) => progress?.Invoke(new(++_done, 2 * matricesInAll, path));
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
