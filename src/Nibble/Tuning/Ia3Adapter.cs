using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Which layers IA3 scales.</summary>
public sealed record Ia3Settings
{
    /// <summary>Module names; or one regular expression if <see cref="TargetsAreRegex"/>. Empty: the family's default.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = [];

    /// <summary>The only entry of <see cref="TargetModules"/> is a regular expression.</summary>
    public bool TargetsAreRegex { get; init; }

    /// <summary>Modules whose input is scaled instead of their output; empty for the family's default.</summary>
    public IReadOnlyList<string> FeedforwardModules { get; init; } = [];

    /// <summary>The only entry of <see cref="FeedforwardModules"/> is a regular expression.</summary>
    public bool FeedforwardIsRegex { get; init; }

    /// <summary>Where the base came from.</summary>
    public string? BaseModel { get; init; }
}

/// <summary>IA3 (arXiv 2205.05638): a trained factor for each output of some layers, and for each input of feed-forward layers.</summary>
public sealed class Ia3Adapter : PeftAdapter
{
    private readonly Ia3Settings _settings;
    private readonly bool _transposed;
    private readonly Dictionary<string, Factor> _factors;

    private Ia3Adapter(Ia3Settings settings, bool transposed, IEnumerable<Factor> factors, SavedHead? head, IBackend backend)
        : base(backend, head)
    {
        (_settings, _transposed) = (settings, transposed);
        _factors = factors.ToDictionary(factor => factor.Linear.Path);
    }

    private protected override IEnumerable<AdapterTensor> Own => _factors.Values.Select(factor => new AdapterTensor(factor.Name, factor.Shape, factor.Values));

    /// <summary>A new adapter: all factors are 1.</summary>
    public static Ia3Adapter Create(CausalModel model, IReadOnlyList<LinearSpec> linears, Ia3Settings settings)
    {
        settings = Complete(settings, linears);
        Factor[] factors = [.. Factors(settings, linears, factor =>
        {
            Tensor values = model.Backend.Allocate(new Shape(factor.Shape.Count), DType.F32);
            model.Backend.Gradients.Fill(values, 1);
            return values;
        })];
        return new Ia3Adapter(settings, factors.Any(factor => factor.Linear.StoredTransposed), factors, SavedHead.Of(model), model.Backend);
    }

    /// <summary>Numbers that a new adapter would train.</summary>
    public static long CountParameters(Ia3Settings settings, IReadOnlyList<LinearSpec> linears) =>
        Factors(Complete(settings, linears), linears, _ => null!).Sum(factor => (long)factor.Shape.Count);

    /// <summary>Layers that a new adapter would scale.</summary>
    public static IReadOnlyList<string> Modules(Ia3Settings settings, IReadOnlyList<LinearSpec> linears) =>
        [.. Factors(Complete(settings, linears), linears, _ => null!).Select(factor => factor.Linear.Path)];

    /// <summary>Reads an adapter in PEFT's form.</summary>
    public static Ia3Adapter Load(string folder, JsonConfig json, IReadOnlyList<LinearSpec> linears, ModelFacts facts, IBackend backend)
    {
        (IReadOnlyList<string> targets, bool regex) = PeftConfig.Names(json, "target_modules");
        (IReadOnlyList<string> feedforward, bool feedforwardRegex) = PeftConfig.Names(json, "feedforward_modules");
        if (json.GetStrings("exclude_modules").Count > 0)
        {
            json.Refuse("exclude_modules", "IA3 adapters with excluded modules are not supported", "merge the adapter with PEFT first");
        }

        Ia3Settings settings = Complete(
            new Ia3Settings
            {
                TargetModules = targets, TargetsAreRegex = regex, FeedforwardModules = feedforward, FeedforwardIsRegex = feedforwardRegex,
                BaseModel = json.GetString("base_model_name_or_path", null),
            },
            linears);
        using SafetensorsFile file = AdapterFile.Open(folder);
        AdapterFile.Check(file, Factors(settings, linears, _ => null!).Select(factor => new TensorSpec(factor.Name, factor.Shape)).Concat(SavedHead.Specs(json, facts)));
        Factor[] factors = [.. Factors(settings, linears, factor =>
        {
            using Tensor values = AdapterFile.Floats(file, factor.Name);
            using Tensor vector = values.Reshape(new Shape(values.Shape.Count));
            return vector.Upload(backend);
        })];
        return new Ia3Adapter(settings, json.GetBool("fan_in_fan_out", false), factors, SavedHead.Load(json, file, backend), backend);
    }

    /// <inheritdoc/>
    public override void Attach(CausalModel model)
    {
        base.Attach(model);
        foreach (Block block in model.Blocks)
        {
            block.Replace(linear => _factors.TryGetValue(linear.Path, out Factor? factor) ? new Ia3Linear(linear, factor.Values, factor.Feedforward) : linear);
        }
    }

    /// <inheritdoc/>
    public override void AddDelta(LinearSpec linear, Tensor matrix)
    {
        base.AddDelta(linear, matrix);
        if (!_factors.TryGetValue(linear.Path, out Factor? factor))
        {
            return;
        }

        float[] values = Read(factor);
        Span<float> numbers = matrix.HostSpan<float>();
        int columns = (int)linear.In;
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] *= values[factor.Feedforward ? i % columns : i / columns];
        }
    }

    /// <inheritdoc/>
    public override void MergeBias(LinearSpec linear, Tensor bias)
    {
        if (_factors.TryGetValue(linear.Path, out Factor? factor) && !factor.Feedforward)
        {
            float[] values = Read(factor);
            Span<float> numbers = bias.HostSpan<float>();
            for (int i = 0; i < numbers.Length; i++)
            {
                numbers[i] *= values[i];
            }
        }
    }

    private protected override IDictionary<string, object?> ConfigValues() => new Dictionary<string, object?>
    {
        ["base_model_name_or_path"] = _settings.BaseModel,
        ["exclude_modules"] = null,
        ["fan_in_fan_out"] = _transposed,
        ["feedforward_modules"] = _settings.FeedforwardIsRegex ? _settings.FeedforwardModules[0] : _settings.FeedforwardModules,
        ["init_ia3_weights"] = true,
        ["peft_type"] = "IA3",
        ["target_modules"] = _settings.TargetsAreRegex ? _settings.TargetModules[0] : _settings.TargetModules,
    };

    /// <summary>PEFT's defaults where nothing is named.</summary>
    private static Ia3Settings Complete(Ia3Settings settings, IReadOnlyList<LinearSpec> linears)
    {
        bool gpt = linears.Any(spec => TargetModules.EndsWith(spec.Path, "c_attn"));
        if (settings.TargetModules.Count > 0)
        {
            return settings;
        }

        return settings with
        {
            TargetModules = gpt ? ["c_attn", "mlp.c_proj"] : ["k_proj", "v_proj", "down_proj"],
            FeedforwardModules = settings.FeedforwardModules.Count > 0 ? settings.FeedforwardModules : gpt ? ["mlp.c_proj"] : ["down_proj"],
        };
    }

    private static IEnumerable<Factor> Factors(Ia3Settings settings, IReadOnlyList<LinearSpec> linears, Func<Factor, Tensor> values)
    {
        bool Feeds(LinearSpec spec) => settings.FeedforwardModules.Count > 0
            && TargetModules.Matches(spec.Path, settings.FeedforwardModules, settings.FeedforwardIsRegex);
        LoraSettings targets = new() { TargetModules = settings.TargetModules, TargetsAreRegex = settings.TargetsAreRegex };
        foreach (LoraTarget target in TargetModules.Find(linears, targets))
        {
            Factor factor = new(target.Linear, Feeds(target.Linear), null!);
            yield return factor with { Values = values(factor) };
        }
    }

    private float[] Read(Factor factor)
    {
        float[] values = new float[factor.Shape.Count];
        Backend.Read<float>(factor.Values, values);
        return values;
    }

    private sealed record Factor(LinearSpec Linear, bool Feedforward, Tensor Values)
    {
        public string Name => $"{Prefix}{Linear.Path}.ia3_l";

        public Shape Shape => Feedforward ? new Shape(1, Linear.In) : new Shape(Linear.Out, 1);
    }
}

/// <summary>A linear layer whose outputs (or inputs) are scaled.</summary>
internal sealed class Ia3Linear(ILinear inner, Tensor factor, bool input) : ILinear
{
    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        if (!input)
        {
            inner.Forward(x, y, pass);
            Ops.ScaleColumns.Forward(pass.Backend, y, factor);
            return;
        }

        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor scaled = pass.Workspace.Rent(x.Shape);
        Ops.CopyColumns.Forward(pass.Backend, x, 0, scaled);
        Ops.ScaleColumns.Forward(pass.Backend, scaled, factor);
        inner.Forward(scaled, y, pass);
    }

    public void Dispose() => inner.Dispose();
}
