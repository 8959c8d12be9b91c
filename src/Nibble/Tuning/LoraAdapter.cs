using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A LoRA or DoRA adapter of a model: A and B of all its layers. It owns them; the layers around the base only use them.</summary>
public sealed class LoraAdapter : PeftAdapter
{
    private readonly Dictionary<string, LoraPair> _pairs;
    private readonly List<DoraNorms> _norms = [];

    private LoraAdapter(LoraSettings settings, IEnumerable<LoraPair> pairs, SavedHead? head, IBackend backend)
        : base(backend, head)
    {
        Settings = settings;
        _pairs = pairs.ToDictionary(pair => pair.Target.Linear.Path);
    }

    /// <summary>What the adapter is.</summary>
    public LoraSettings Settings { get; }

    private protected override IEnumerable<AdapterTensor> Own => _pairs.Values.SelectMany(Tensors);

    /// <summary>
    /// A new adapter. Unless <see cref="LoraSettings.Init"/> says otherwise A is uniform in ±1/√in (Kaiming with a = √5, as PEFT) and B
    /// zero, so that training starts at the base model.
    /// </summary>
    /// <param name="model">The base.</param>
    /// <param name="linears">Its matrices.</param>
    /// <param name="settings">What the adapter is.</param>
    /// <param name="seed">Seed of what is random.</param>
    /// <param name="dense">The matrix of a layer before it was quantized, F32 on the host, or null where that is not known; LoftQ needs it.</param>
    public static LoraAdapter Create(
        CausalModel model, IReadOnlyList<LinearSpec> linears, LoraSettings settings, ulong seed, Func<LinearSpec, Tensor?>? dense = null)
    {
        if (settings.Init != LoraInit.Kaiming || settings.UseDora)
        {
            RequireUnrepaired(model, settings.UseDora ? "DoRA" : $"an adapter that starts as {settings.Init}");
        }

        Dictionary<string, IPackedWeight> weights = model.Weights.ToDictionary(item => item.Path, item => item.Weight);
        IEnumerable<LoraPair> pairs = TargetModules.Find(linears, settings).Select(target => NewPair(target, weights[target.Linear.Path], settings, seed, dense, model.Backend));
        return new LoraAdapter(settings, pairs, SavedHead.Of(model), model.Backend);
    }

    /// <summary>Reads an adapter in PEFT's form; every tensor that does not fit the base is reported at once.</summary>
    public static LoraAdapter Load(string folder, JsonConfig json, IReadOnlyList<LinearSpec> linears, ModelFacts facts, IBackend backend)
    {
        LoraSettings settings = PeftConfig.ReadLora(json);
        IReadOnlyList<LoraTarget> targets = TargetModules.Matching(linears, settings);
        using SafetensorsFile file = AdapterFile.Open(folder);
        AdapterFile.Check(file, targets.SelectMany(target => Specs(target, settings)).Concat(SavedHead.Specs(json, facts)));
        IPackedWeight Matrix(LoraTarget target, string part)
        {
            using Tensor values = AdapterFile.Floats(file, LoraPair.Name(target.Linear, part));
            return backend.Prepare(values);
        }

        Tensor Magnitude(LoraTarget target)
        {
            using Tensor values = AdapterFile.Floats(file, LoraPair.Name(target.Linear, "lora_magnitude_vector"));
            return values.Upload(backend);
        }

        IEnumerable<LoraPair> pairs = targets.Select(target => new LoraPair(
            target, Matrix(target, "lora_A.weight"), Matrix(target, "lora_B.weight"), settings.Scale(target.Rank, target.Alpha))
        {
            Magnitude = settings.UseDora ? Magnitude(target) : null,
        });
        return new LoraAdapter(settings, pairs, SavedHead.Load(json, file, backend), backend);
    }

    /// <inheritdoc/>
    public override void Attach(CausalModel model)
    {
        if (Settings.UseDora)
        {
            RequireUnrepaired(model, "DoRA");
        }

        base.Attach(model);
        foreach (Block block in model.Blocks)
        {
            block.Replace(Wrap);
        }
    }

    /// <summary>Attaches with <paramref name="weight"/> times its effect; not for DoRA.</summary>
    internal void AttachScaled(CausalModel model, float weight)
    {
        foreach (Block block in model.Blocks)
        {
            block.Replace(linear => _pairs.TryGetValue(linear.Path, out LoraPair? pair) ? new LoraLinear(linear, pair.Scaled(weight), 0) : linear);
        }
    }

    /// <summary>Adds <paramref name="weight"/> times what the adapter adds to a matrix.</summary>
    internal void AddScaled(LinearSpec linear, Tensor matrix, float weight)
    {
        if (_pairs.TryGetValue(linear.Path, out LoraPair? pair))
        {
            LoraMerge.Into(matrix, pair.Scaled(weight), Backend);
        }
    }

    /// <inheritdoc/>
    public override void Refresh() => _norms.ForEach(norms => norms.Refresh());

    /// <inheritdoc/>
    public override void AddDelta(LinearSpec linear, Tensor matrix)
    {
        base.AddDelta(linear, matrix);
        if (_pairs.TryGetValue(linear.Path, out LoraPair? pair))
        {
            LoraMerge.Into(matrix, pair, Backend);
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        foreach (IDisposable item in _pairs.Values.SelectMany(pair => pair.Untrained))
        {
            item.Dispose();
        }
    }

    private protected override IEnumerable<(string Name, Tensor Tensor)> SavedTensors() =>
        Settings.Init == LoraInit.Pissa ? _pairs.Values.SelectMany(pair => LoraDouble.Tensors(pair, Backend)) : base.SavedTensors();

    private protected override IDictionary<string, object?> ConfigValues() => PeftConfig.Lora(
        Settings.Init == LoraInit.Pissa ? LoraDouble.Settings(Settings) : Settings,
        _pairs.Keys.Select(path => path[(path.LastIndexOf('.') + 1)..]),
        _pairs.Values.Any(pair => pair.Target.Linear.StoredTransposed));

    /// <summary>An adapter of pairs that are there already; it owns them.</summary>
    internal static LoraAdapter Of(IEnumerable<LoraPair> pairs, LoraSettings settings, IBackend backend) => new(settings, pairs, null, backend);

    private static void RequireUnrepaired(CausalModel model, string what)
    {
        if (model.Repairs.Any())
        {
            Throw.Usage(
                $"{what} cannot stand on a base with a low-rank repair",
                "it computes with the base's matrix, and that is codes plus a repair here",
                "train plain LoRA (--init kaiming), or quantize the base without --repair-rank");
        }
    }

    private static LoraPair NewPair(LoraTarget target, IPackedWeight weight, LoraSettings settings, ulong seed, Func<LinearSpec, Tensor?>? dense, IBackend backend)
    {
        float scale = settings.Scale(target.Rank, target.Alpha);
        Tensor? magnitudes = settings.UseDora ? LoraStart.Magnitudes(weight, backend) : null;
        if (settings.Init == LoraInit.Kaiming)
        {
            return new LoraPair(target, LoraStart.Kaiming(target, seed, backend), LoraStart.Zero(target, backend), scale) { Magnitude = magnitudes };
        }

        if (magnitudes is not null)
        {
            Throw.Usage($"DoRA can't start as {settings.Init}", "its magnitudes belong to a layer that starts as the base", "use --init kaiming");
        }

        using Tensor matrix = ParameterRows.Dense(backend, weight);
        if (settings.Init == LoraInit.Loftq)
        {
            Subtract(matrix, dense?.Invoke(target.Linear), target.Linear);
        }

        (IPackedWeight a, IPackedWeight b) = LoraStart.LargestParts(matrix, target, scale, seed, backend);
        return new LoraPair(target, a, b, scale) { Start = settings.Init == LoraInit.Pissa ? (LoraStart.Copy(a, backend), LoraStart.Copy(b, backend)) : null };
    }

    /// <summary>quantized = dense − quantized: what quantization took away.</summary>
    private static void Subtract(Tensor quantized, Tensor? dense, LinearSpec linear)
    {
        if (dense is null)
        {
            Throw.Usage(
                $"LoftQ can't start {linear.Path}", "it needs the matrix before quantization, and this base is only there as it is", "give the dense base with --method qlora, or use --init kaiming");
        }

        using (dense)
        {
            Span<float> rest = quantized.HostSpan<float>(), whole = dense.HostSpan<float>();
            for (int i = 0; i < rest.Length; i++)
            {
                rest[i] = whole[i] - rest[i];
            }
        }
    }

    private static IEnumerable<TensorSpec> Specs(LoraTarget target, LoraSettings settings)
    {
        yield return new(LoraPair.Name(target.Linear, "lora_A.weight"), new Shape(target.Rank, target.Linear.In));
        yield return new(LoraPair.Name(target.Linear, "lora_B.weight"), new Shape(target.Linear.Out, target.Rank));
        if (settings.UseDora)
        {
            yield return new(LoraPair.Name(target.Linear, "lora_magnitude_vector"), new Shape(target.Linear.Out));
        }
    }

    private IEnumerable<AdapterTensor> Tensors(LoraPair pair)
    {
        yield return new(pair.NameA, new Shape(pair.A.Out, pair.A.In), pair.A);
        yield return new(pair.NameB, new Shape(pair.B.Out, pair.B.In), pair.B) { RateFactor = Settings.RateRatio };
        if (pair.Magnitude is { } magnitude)
        {
            yield return new(pair.NameMagnitude, magnitude.Shape, magnitude);
        }
    }

    private ILinear Wrap(ILinear linear)
    {
        if (!_pairs.TryGetValue(linear.Path, out LoraPair? pair))
        {
            return linear;
        }

        if (pair.Magnitude is null)
        {
            return new LoraLinear(linear, pair, (float)Settings.Dropout);
        }

        DoraNorms norms = new(Backend, pair, linear.Weight);
        _norms.Add(norms);
        return new DoraLinear(linear, pair, norms, (float)Settings.Dropout);
    }
}
