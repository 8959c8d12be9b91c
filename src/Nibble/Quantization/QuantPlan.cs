using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>What a user asks for; <see cref="QuantPlan.Create"/> turns it into a decision for every matrix.</summary>
/// <param name="Settings">Method and settings of the blocks' matrices.</param>
public sealed record PlanRequest(QuantizationSettings Settings)
{
    /// <summary>Other settings for some matrices; the last one that matches wins.</summary>
    public IReadOnlyList<PlanOverride> Overrides { get; init; } = [];

    /// <summary>Quantize the output head (and a classification head) as well.</summary>
    public bool Head { get; init; }

    /// <summary>Quantize the token embedding as well, and with it a head that is tied to it.</summary>
    public bool Embeddings { get; init; }

    /// <summary>Name of the layout; null takes the one that the method prefers.</summary>
    public string? Layout { get; init; }
}

/// <summary>
/// Method, bits and group of every matrix of a model, made from the architecture's own list, so that no matrix can be missed
/// without a word: a plan fails when the set of matrices is not the expected one.
/// </summary>
public sealed class QuantPlan
{
    private QuantPlan(ModelConfig config, IArchitecture architecture, IReadOnlyList<PlannedTensor> tensors, IQuantizationLayout layout)
    {
        ModelType = config.ModelType;
        Tensors = tensors;
        Layout = layout;
        Folds = PlannedFold.Of(architecture, config, tensors);
        FoldedVectors = Folds.SelectMany(fold => fold.Vectors).Intersect(architecture.Vectors(config).Select(spec => spec.Name)).ToHashSet();
    }

    /// <summary>The model's <c>model_type</c>.</summary>
    public string ModelType { get; }

    /// <summary>Every matrix of the model, in the order of the forward pass.</summary>
    public IReadOnlyList<PlannedTensor> Tensors { get; }

    /// <summary>How the quantized ones are stored.</summary>
    public IQuantizationLayout Layout { get; }

    /// <summary>Where factors move from activations into weights (AWQ), and where they cannot.</summary>
    public IReadOnlyList<PlannedFold> Folds { get; }

    /// <summary>Norms and biases that change with the factors; they are stored in F32.</summary>
    internal IReadOnlySet<string> FoldedVectors { get; }

    /// <summary>The matrices that are quantized.</summary>
    public IEnumerable<PlannedTensor> Quantized => Tensors.Where(tensor => tensor.Settings is not null);

    /// <summary>Plans a model from its config alone.</summary>
    /// <exception cref="NibbleException">Settings that a method cannot do, overrides that match nothing, weights that no layout holds.</exception>
    public static QuantPlan Create(ModelConfig config, PlanRequest request)
    {
        IArchitecture architecture = Registry.Architecture(config);
        IReadOnlyList<LinearSpec> specs = architecture.Linears(config);
        RequireMatches(specs, request);
        DType stored = config.StoredDType;
        PlannedTensor[] tensors = [.. specs.Select(spec => Decide(spec, request, stored))];
        Check(config, tensors, request);
        return new QuantPlan(config, architecture, tensors, ChooseLayout(tensors, request));
    }

    /// <summary>
    /// Compares the plan with the tensors of a checkpoint: all planned matrices must be there, and no matrix may be there that the
    /// architecture does not know, since it would stay dense without a word.
    /// </summary>
    public void Check(HfFolder folder, IArchitecture architecture)
    {
        HashSet<string> known = [.. Tensors.Select(tensor => tensor.Spec.WeightName), .. architecture.Vectors(folder.Config).Select(spec => spec.Name)];
        string[] foreign = [.. folder.Names.Where(name => IsForeignMatrix(folder, name, architecture.Sanitize(name), known))];
        if (foreign.Length > 0)
        {
            Throw.BadInput(
                $"{folder.Path}: {foreign.Length} matrices belong to no layer that the architecture '{ModelType}' knows: {string.Join(", ", foreign.Take(20))}",
                "they would stay dense, and the result would not be what its name says",
                "use a checkpoint of this architecture, or remove the tensors");
        }
    }

    /// <summary>True if a method looks at the inputs of layers.</summary>
    public bool NeedsCalibration => Quantized.Any(tensor => tensor.Settings!.NeedsInputs);

    /// <summary>True if scales of activations are found on a text.</summary>
    public bool RoundsActivations => Quantized.Any(tensor => tensor.Settings!.ActivationBits is not null);

    /// <summary>Refuses methods that look at the inputs of layers, where there are none to look at.</summary>
    public void RequireDataFree()
    {
        PlannedTensor? hungry = Quantized.FirstOrDefault(tensor => tensor.Settings!.NeedsText);
        if (hungry is not null)
        {
            Throw.Usage($"method {hungry.Settings!.Method}{(hungry.Settings.RepairWeighted == true ? " with a weighted repair" : hungry.Settings.Compensate == true ? " with --compensate" : hungry.Settings.ActivationBits is not null ? " with --activation-bits" : string.Empty)} needs calibration", hungry.Settings.NeedsInputs ? "it looks at the inputs of each layer" : "the scales of activations are found on a text", "quantize into a folder, with a text given by --data");
        }
    }

    /// <summary>The document that is saved beside the model.</summary>
    public PlanDocument ToDocument() => new(1, ModelType, Layout.Name, [.. Tensors.Select(tensor => new PlanDocumentTensor(
        tensor.Spec.Path,
        [tensor.Spec.Out, tensor.Spec.In],
        tensor.Spec.Role.ToString().ToLowerInvariant(),
        tensor.Settings?.Method ?? PlanOverride.Dense,
        tensor.Settings?.Bits,
        tensor.Settings?.ToDocument(),
        tensor.Reason))]);

    private static PlannedTensor Decide(LinearSpec spec, PlanRequest request, DType stored)
    {
        PlanOverride? chosen = request.Overrides.LastOrDefault(item => item.Matches(spec.Path));
        if (chosen is not null)
        {
            return Planned(spec, chosen.Settings, stored, chosen.Reason ?? $"override {chosen.Pattern}");
        }

        bool wanted = spec.Role switch
        {
            LinearRole.Block => true,
            LinearRole.Embedding => request.Embeddings,
            _ => request.Head,
        };
        return Planned(spec, wanted ? request.Settings : null, stored, spec.Role == LinearRole.Block ? "block" : wanted ? "chosen" : "kept by default");
    }

    private static PlannedTensor Planned(LinearSpec spec, QuantizationSettings? settings, DType stored, string reason)
    {
        if (settings is null)
        {
            return new PlannedTensor(spec, null, null, reason);
        }

        IQuantizationMethod method = Registry.Method(settings.Method);
        QuantizationSettings complete = method.Complete(method.ForModel(settings, stored));
        if (spec.Role != LinearRole.Block)
        {
            // Embeddings are gathered and heads share them: a repair stands beside the layers of blocks only.
            // Heads are shared and computed in parts, too: activations are rounded in blocks only.
            complete = complete.WithoutRepair() with { ActivationBits = null };
        }

        WeightFacts facts = method.FactsOf(complete, spec.Out, spec.In);
        RequireRepairable(spec, complete, facts);
        return new PlannedTensor(spec, complete, facts, reason);
    }

    private static void RequireRepairable(LinearSpec spec, QuantizationSettings settings, WeightFacts facts)
    {
        if (settings.RepairRank is { } rank && (rank >= nint.Min(spec.Out, spec.In) || spec.Ternary))
        {
            Throw.Usage(
                $"{spec.Path} cannot have a repair of rank {rank}",
                spec.Ternary ? "the architecture computes with ternary weights" : $"the matrix is {spec.Out} × {spec.In}: a repair of that rank is larger than the matrix itself",
                $"choose a smaller --repair-rank, or another for this matrix: --override '{spec.Path}={settings.Method}:bits={settings.Bits},…'");
        }

        if (settings.RepairWeighted == true && facts.Kind != WeightKind.Affine)
        {
            Throw.Usage(
                $"method {settings.Method} cannot have a weighted repair",
                "what interrupted work goes on from holds affine codes only",
                "add --repair-weighted false: the repair then lessens the error of the weights");
        }
    }

    private static void RequireMatches(IReadOnlyList<LinearSpec> specs, PlanRequest request)
    {
        foreach (PlanOverride item in request.Overrides.Where(item => !specs.Any(spec => item.Matches(spec.Path))))
        {
            Throw.Usage($"override '{item.Pattern}' matches no matrix", $"the model has {string.Join(", ", specs.Select(spec => spec.Path).Take(12))} …", "use * for any text");
        }

        if (request.Head && !specs.Any(spec => spec.Role is LinearRole.Head or LinearRole.Classifier))
        {
            Throw.Usage("the model has no head of its own to quantize", "its head is tied to the token embedding: both are one matrix", "use --quantize-embeddings");
        }
    }

    private static void Check(ModelConfig config, PlannedTensor[] tensors, PlanRequest request)
    {
        string[] missed = [.. tensors.Where(tensor => tensor is { Settings: null, Spec.Role: LinearRole.Block } && !request.Overrides.Any(item => item.Matches(tensor.Spec.Path))).Select(tensor => tensor.Spec.Path)];
        if (missed.Length > 0 || !tensors.Any(tensor => tensor.Settings is not null))
        {
            Throw.Failed($"{config.Path}: the plan covers no matrix, or misses some: {string.Join(", ", missed)}", "every matrix of a block must be quantized or kept by name");
        }

        PlannedTensor? wrong = tensors.FirstOrDefault(tensor => tensor is { Spec.Ternary: true, Settings: not null, Facts.Kind: not WeightKind.Ternary });
        if (wrong is not null)
        {
            Throw.Usage(
                $"{config.Path}: {wrong.Settings!.Method} cannot quantize {wrong.Spec.Path}",
                $"the architecture {config.ModelType} computes with ternary weights, and the stored ones are the masters of its training",
                "use --method ternary");
        }
    }

    private static IQuantizationLayout ChooseLayout(PlannedTensor[] tensors, PlanRequest request)
    {
        PlannedTensor[] quantized = [.. tensors.Where(tensor => tensor.Facts is not null)];
        string preferred = request.Layout ?? Registry.Method(request.Settings.Method).PreferredLayout;
        IEnumerable<IQuantizationLayout> candidates = request.Layout is null
            ? Registry.Layouts.OrderBy(layout => layout.Name != preferred)
            : [Registry.Layout(request.Layout)];
        List<string> refusals = [];
        foreach (IQuantizationLayout layout in candidates)
        {
            string? why = quantized.Select(tensor => layout.CanHold(tensor.Facts!, out string reason) ? null : $"{tensor.Spec.Path} ({tensor.Facts}): {reason}").FirstOrDefault(reason => reason is not null)
                ?? (layout.CanHoldTogether([.. quantized.Select(tensor => tensor.Facts!)], out string together) ? null : together);
            if (why is null)
            {
                return layout;
            }

            refusals.Add($"{layout.Name}: {why}");
        }

        string[] able = [.. Registry.Layouts.Where(layout => quantized.All(tensor => layout.CanHold(tensor.Facts!, out _)) && layout.CanHoldTogether([.. quantized.Select(tensor => tensor.Facts!)], out _)).Select(layout => layout.Name)];
        Throw.Usage(
            "no single layout can hold what is planned: " + string.Join("; ", refusals),
            "a model folder has one quantization_config, hence one layout",
            able.Length > 0 ? $"these layouts can: {string.Join(", ", able)}" : "choose settings of one kind for all matrices");
        return null!;
    }

    private static bool IsForeignMatrix(HfFolder folder, string stored, string? name, HashSet<string> known)
    {
        const string head = "lm_head.weight";
        SafetensorsEntry entry = folder.Entry(stored);
        return name is not null && name != head && entry.Extents.Count >= 2 && entry.DType?.IsFloat() == true && !known.Contains(name);
    }
}
