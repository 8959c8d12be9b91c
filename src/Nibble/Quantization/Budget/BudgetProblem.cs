using System.Globalization;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>A model's matrices, the forms that each may take, and, once measured, what each form costs; any number of budgets can be solved.</summary>
internal sealed class BudgetProblem : IDisposable
{
    // Name, type, shape and offsets of a tensor in the header of a safetensors file, padding and the file's own length included.
    private const long HeaderBytesPerTensor = 256;

    private readonly string _input;
    private readonly HfFolder _folder;
    private readonly QuantPlan _probe;
    private readonly PlanRequest _request;
    private readonly IQuantizationLayout _layout;
    private readonly DType _source;
    private readonly LinearSpec[] _free;
    private readonly Dictionary<string, IReadOnlyList<PlannedTensor>> _options;
    private List<KnapsackOption[]> _items;

    private BudgetProblem(string input, HfFolder folder, QuantPlan probe, PlanRequest request, BudgetCandidates candidates)
    {
        (_input, _folder, _probe, _request) = (input, folder, probe, request);
        _layout = Registry.Layout(request.Layout!);
        _source = folder.Names.Select(name => folder.Entry(name).DType).First(dtype => dtype?.IsFloat() == true)!.Value;
        _free = [.. probe.Tensors.Where(tensor => tensor.Spec.Role == LinearRole.Block && !request.Overrides.Any(item => item.Matches(tensor.Spec.Path))).Select(tensor => tensor.Spec)];
        RequireChoice();
        _options = _free.ToDictionary(spec => spec.Path, spec => candidates.Of(spec, _source));
        _items = [.. _free.Select(spec => _options[spec.Path].Select(item => new KnapsackOption(candidates.Bytes(item, _source), 0)).ToArray())];
    }

    /// <summary>Opens a dense model.</summary>
    public static BudgetProblem Open(string input, QuantizationSettings? settings, PlanRequest? others)
    {
        IQuantizationLayout layout = Registry.Layout(others?.Layout ?? "compressed-tensors");
        BudgetCandidates candidates = new(settings, layout);
        QuantizationSettings placeholder = new() { Method = "rtn" };
        PlanRequest request = (others ?? new PlanRequest(placeholder)) with { Layout = layout.Name };
        (HfFolder folder, QuantPlan probe) = Quantizer.Prepare(input, request with { Settings = placeholder, Layout = null });
        try
        {
            return new BudgetProblem(input, folder, probe, request, candidates);
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <summary>Measures the loss of every form of every matrix.</summary>
    public void Measure(CalibrationRequest calibration, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        using LoadedModel model = LoadedModel.Load(_input);
        IReadOnlyList<int[]> samples = calibration.Choose(model);
        HfMatrices matrices = new(new DenseWeightSource(_folder, Registry.Architecture(_folder.Config)));
        IReadOnlyDictionary<string, double[]> losses = new LossTable(model, matrices, progress, cancellation).Measure(_options, samples);
        _items = [.. _items.Select((options, i) => options.Select((option, k) => option with { Loss = losses[_free[i].Path][k] }).ToArray())];
    }

    /// <summary>The best plan within a budget.</summary>
    public BudgetPlan Solve(BudgetRequest budget)
    {
        RequireRoom(budget);
        return Solve(budget, _ => true)!;
    }

    /// <summary>The best plan of some of the forms; null if they do not fit, or leave a matrix without one.</summary>
    public BudgetPlan? Solve(BudgetRequest budget, Func<PlannedTensor, bool> allowed)
    {
        long capacity = Capacity(budget);
        int[][] kept = [.. _free.Select(spec => _options[spec.Path].Index().Where(item => allowed(item.Item)).Select(item => item.Index).ToArray())];
        if (Array.Exists(kept, list => list.Length == 0) || Knapsack.Solve([.. kept.Select((list, i) => list.Select(index => _items[i][index]).ToArray())], capacity) is not { } solution)
        {
            return null;
        }

        BudgetChoice[] choices = [.. _free.Select((spec, i) => Choice(i, kept[i][solution.Choice[i]]))];
        PlanRequest request = _request with
        {
            Settings = choices.GroupBy(choice => choice.Tensor.Settings!).MaxBy(group => group.Sum(choice => choice.Tensor.Count))!.Key,
            Overrides = [.. _request.Overrides, .. choices.Select(choice => new PlanOverride(choice.Tensor.Spec.Path, choice.Tensor.Settings) { Reason = choice.Tensor.Reason })],
        };
        return new BudgetPlan(request, choices, capacity, solution.Loss, solution.LowerBound);
    }

    /// <summary>The plans within a budget that give all matrices the same settings.</summary>
    public IEnumerable<BudgetPlan> Uniform(BudgetRequest budget) =>
        _options[_free[0].Path].Select(option => option.Settings!).Select(settings => Solve(budget, option => option.Settings == settings)).OfType<BudgetPlan>();

    /// <summary>Every matrix that a plan quantizes, those with an override included.</summary>
    public IEnumerable<PlannedTensor> Plan(BudgetPlan plan) => QuantPlan.Create(_folder.Config, plan.Request).Quantized;

    /// <summary>Bytes of a matrix in one form.</summary>
    public long BytesOf(PlannedTensor option) => _items[Array.IndexOf(_free, option.Spec)][_options[option.Spec.Path].Index().First(item => item.Item == option).Index].Bytes;

    /// <summary>The same by its settings.</summary>
    public long BytesOf(LinearSpec spec, QuantizationSettings settings) => BytesOf(_options[spec.Path].First(option => option.Settings == settings));

    /// <summary>A dense matrix, F32; the caller disposes it.</summary>
    public Tensor Load(LinearSpec spec) => new HfMatrices(new DenseWeightSource(_folder, Registry.Architecture(_folder.Config))).Load(spec);

    /// <summary>Refuses a budget that no plan fits, and says what the smallest one takes.</summary>
    public void RequireRoom(BudgetRequest budget)
    {
        long smallest = _items.Sum(options => options.Min(option => option.Bytes)), capacity = Capacity(budget);
        if (smallest > capacity)
        {
            double weights = _free.Sum(spec => (double)spec.Out * spec.In);
            Throw.Usage(
                $"no plan fits {budget}",
                string.Create(CultureInfo.InvariantCulture, $"the matrices of the blocks take at least {smallest:N0} bytes ({8 * smallest / weights:F3} bits per weight), {Math.Max(0, capacity):N0} bytes are left for them"),
                budget.MaxBytes is { } bytes ? $"use --max-bytes {bytes - capacity + smallest} or more" : string.Create(CultureInfo.InvariantCulture, $"use --budget {Math.Ceiling(1000 * 8 * smallest / weights) / 1000}bpw or more"));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _folder.Dispose();

    /// <summary>Bytes that the budget leaves for the matrices that are free.</summary>
    private long Capacity(BudgetRequest budget)
    {
        HashSet<string> free = [.. _free.Select(spec => spec.Path)];
        PlannedTensor[] settled = [.. _probe.Quantized.Where(tensor => !free.Contains(tensor.Spec.Path))];
        long settledBytes = settled.Sum(tensor => _layout.Declare(tensor.Facts!, _source).Sum(item => item.Of("x").ByteLength));
        if (budget.BitsPerWeight is { } bits)
        {
            long weights = _free.Sum(spec => (long)spec.Out * spec.In) + settled.Sum(tensor => tensor.Count);
            return (long)Math.Floor(bits * weights / 8) - settledBytes;
        }

        IArchitecture architecture = Registry.Architecture(_folder.Config);
        HashSet<string> quantized = [.. _probe.Quantized.Select(tensor => tensor.Spec.WeightName)];
        long others = _folder.Names.Where(name => architecture.Sanitize(name) is { } module && !quantized.Contains(module)).Sum(name => _folder.Entry(name).ByteLength);
        long tensors = _folder.Names.Count() + _options.Values.Concat(settled.Select(tensor => (IReadOnlyList<PlannedTensor>)[tensor])).Sum(list => list.Max(item => _layout.Declare(item.Facts!, _source).Count));
        return budget.MaxBytes!.Value - others - settledBytes - (HeaderBytesPerTensor * tensors);
    }

    private BudgetChoice Choice(int matrix, int option) => new(_options[_free[matrix].Path][option], _items[matrix][option].Bytes, _items[matrix][option].Loss);

    private void RequireChoice()
    {
        if (_free.Length == 0)
        {
            Throw.Usage($"{_input}: the overrides leave no matrix to choose for", "a budget decides about matrices of blocks without an override", "remove some overrides, or the budget");
        }

        if (Array.Find(_free, spec => spec.Ternary) is { } ternary)
        {
            Throw.Usage($"{_input}: a budget cannot choose for {ternary.Path}", "the architecture computes with ternary weights", "use --method ternary");
        }
    }
}
