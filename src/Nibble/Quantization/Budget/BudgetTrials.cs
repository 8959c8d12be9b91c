using Nibble.Backends;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>A plan that was tried as a whole.</summary>
/// <param name="Name">What it is.</param>
/// <param name="BitsPerWeight">Stored bits.</param>
/// <param name="Kl">KL divergence of the whole quantized model from the dense one on the measuring samples.</param>
public sealed record BudgetTrial(string Name, double BitsPerWeight, double Kl);

/// <summary>
/// Losses of single matrices do not say how errors of all of them act together, so the few plans that come into question are carried out in memory and measured: the solution
/// of the knapsack, the one that stays within a bit of the best uniform plan, and uniform plans themselves. The chosen plan is therefore never worse,
/// on the measuring samples, than a uniform one that fits.
/// </summary>
internal sealed class BudgetTrials : IDisposable
{
    private const int MeasuringTokens = 16_384, UniformPlans = 2;

    private readonly LoadedModel _dense;
    private readonly CalibrationRequest _calibration;
    private readonly SensitivityMeter _meter;
    private readonly CancellationToken _cancellation;
    private readonly Dictionary<string, double> _measured = [];

    /// <summary>Loads the dense model and runs the measuring samples: others than those of the calibration, of the same text.</summary>
    public BudgetTrials(string input, CalibrationRequest calibration, CancellationToken cancellation)
    {
        (_calibration, _cancellation) = (calibration, cancellation);
        _dense = LoadedModel.Load(input);
        int length = calibration.Choose(_dense)[0].Length;
        _meter = new SensitivityMeter(_dense.Model, (calibration with { Seed = calibration.Seed + 1, Samples = Math.Clamp(MeasuringTokens / length, 1, calibration.Samples) }).Choose(_dense));
    }

    /// <summary>The best of the plans within a budget, with all that were tried.</summary>
    public BudgetPlan Best(BudgetProblem problem, BudgetRequest budget, Action<QuantizationStep>? progress = null)
    {
        (string Name, BudgetPlan Plan)[] plans = [.. Plans(problem, budget).DistinctBy(item => Key(item.Plan))];
        List<BudgetTrial> trials = [];
        for (int i = 0; i < plans.Length; i++)
        {
            trials.Add(new(plans[i].Name, plans[i].Plan.BitsPerWeight, Measure(plans[i].Plan, problem)));
            progress?.Invoke(new(i + 1, plans.Length, $"trial: {plans[i].Name}"));
        }

        int best = trials.Index().MinBy(item => item.Item.Kl).Index;
        return plans[best].Plan with { Trials = trials, Chosen = best, LowerBound = plans[0].Plan.LowerBound };
    }

    public void Dispose()
    {
        _meter.Dispose();
        _dense.Dispose();
    }

    private static IEnumerable<(string Name, BudgetPlan Plan)> Plans(BudgetProblem problem, BudgetRequest budget)
    {
        yield return ("least expected loss", problem.Solve(budget));
        BudgetPlan[] uniform = [.. problem.Uniform(budget).OrderBy(plan => plan.ExpectedLoss).Take(UniformPlans)];
        if (uniform.Length == 0)
        {
            yield break;
        }

        int bits = uniform[0].Request.Settings.Bits!.Value;
        if (problem.Solve(budget, option => Math.Abs(option.Facts!.Bits - bits) <= 1) is { } near)
        {
            yield return ($"{bits - 1} to {bits + 1} bits", near);
        }

        // Upgrades of the best uniform plan alone: what is left of the budget goes where it saves most, and nothing is taken away.
        BudgetChoice first = uniform[0].Choices[0];
        if (problem.Solve(budget, option => option.Facts!.Bits > bits || (option.Facts.Bits == bits && problem.BytesOf(option) >= problem.BytesOf(option.Spec, first.Tensor.Settings!))) is { } upgraded)
        {
            yield return ($"uniform {bits} bits and upgrades", upgraded);
        }

        foreach (BudgetPlan plan in uniform)
        {
            yield return ($"uniform {plan.Request.Settings}", plan);
        }
    }

    private static string Key(BudgetPlan plan) => string.Join('\n', plan.Choices.Select(choice => $"{choice.Tensor.Spec.Path} {choice.Tensor.Settings}"));

    private double Measure(BudgetPlan plan, BudgetProblem problem)
    {
        if (_measured.TryGetValue(Key(plan), out double known))
        {
            return known;
        }

        using LoadedModel model = LoadedModel.Load(_dense.Path);
        Dictionary<string, PlannedTensor> planned = problem.Plan(plan).Where(tensor => tensor.Spec.Role == LinearRole.Block).ToDictionary(tensor => tensor.Spec.Path);
        using (BlockCalibration calibration = new(model.Model, _calibration.Choose(model), memoryBytes: _calibration.MemoryBytes, states: _calibration.States))
        {
            calibration.Run((path, statistics) => Pack(planned[path], problem, model.Backend, statistics), cancellation: _cancellation, wanted: planned.ContainsKey);
        }

        return _measured[Key(plan)] = _meter.Of(model.Model);
    }

    private static IPackedWeight Pack(PlannedTensor tensor, BudgetProblem problem, IBackend backend, GramStatistics statistics)
    {
        using Tensor dense = problem.Load(tensor.Spec);
        using QuantizedWeight weight = Registry.Method(tensor.Settings!.Method).Quantize(tensor.Spec.WeightName, dense, tensor.Settings, statistics);
        return WeightPacking.Pack(weight, tensor.Spec, backend, ActivationChoice.F32);
    }
}
