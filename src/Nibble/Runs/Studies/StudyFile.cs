using Nibble.Evaluation;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;
using YamlDotNet.RepresentationModel;

namespace Nibble.Runs.Studies;

/// <summary>Reads a study from YAML. Unknown keys, methods and settings are refused with their line, before anything runs.</summary>
public static class StudyFile
{
    /// <summary>Reads a study.</summary>
    /// <exception cref="NibbleException">The file is no study.</exception>
    public static Study Read(string path)
    {
        YamlMap root = YamlMap.Load(path);
        string? name = root.Text("name"), description = root.Text("description"), device = root.Choice("device", "auto", "cpu", "cuda");
        int? threads = root.Int("threads", 1);
        string activations = root.Choice("activations", Activations) ?? "f32";
        int seed = root.Int("seed") ?? 1234;
        List<string> leftOut = [];
        IReadOnlyList<StudyModel> models = [.. root.List("models").Select(node => Model(path, root, node, new StudySteps(data => DataOf(path, data), seed, threads), leftOut)).OfType<StudyModel>()];
        IReadOnlyList<StudyMethod> methods = [.. root.List("methods").Select(node => Method(root, node, activations))];
        EvaluationOptions declared = Tasks(root);
        EvaluationOptions tasks = declared with
        {
            Seed = seed,
            Data = DataOf(path, declared.Data),
            Country = root.Text("country") is { } country ? Energy.CarbonIntensity.Find(country).Alpha2 : null,
        };
        CalibrationRequest calibration = Calibration(path, root, tasks.Seed);
        root.RefuseUnknown();
        Require(root, models, methods);
        description = leftOut.Count == 0 ? description : $"{description?.Trim()} Left out: {string.Join("; ", leftOut)}.";
        return new Study(name ?? Path.GetFileNameWithoutExtension(path), description, path, models, WithBaseline(methods), tasks, device ?? "auto", threads) { Calibration = calibration };
    }

    private static CalibrationRequest Calibration(string path, YamlMap root, int seed)
    {
        if (root.Map("calibration") is not { } map)
        {
            return new CalibrationRequest("demo") { Seed = seed };
        }

        CalibrationRequest request = new(DataOf(path, map.Text("data") ?? "demo")) { Samples = map.Int("samples", 1) ?? 128, Length = map.Int("length", 2), Seed = map.Int("seed") ?? seed };
        map.RefuseUnknown();
        return request;
    }

    // A file or folder is seen from the study's own folder, as models are.
    private static string DataOf(string study, string data) =>
        TextSource.IsName(data) ? data : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(study))!, data));

    private static readonly string[] Activations = ["f32", "int8", "auto", "bf16"];

    private static StudyModel? Model(string path, YamlMap root, YamlNode node, StudySteps steps, List<string> leftOut)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (node is YamlScalarNode { Value: { Length: > 0 } text })
        {
            return Create(null, text);
        }

        YamlMap map = root.Item("models", node);
        string? name = map.Text("name"), adapter = map.Text("adapter");
        string place = map.Text("path") ?? throw map.Refusal("a model needs a 'path'");
        bool optional = map.Bool("optional") ?? false;
        string[] labels = [.. map.List("methods").Select(item => item.ToString())];
        _ = map.List("prepare");
        map.RefuseUnknown();
        try
        {
            return Create(name, place, adapter) with { Steps = steps.Read(map), Methods = labels.Length == 0 ? null : labels };
        }
        catch (NibbleException error) when (optional && error.Kind == ErrorKind.NotFound)
        {
            leftOut.Add($"{name ?? place} ({error.Why})");
            return null;
        }

        StudyModel Create(string? name, string place, string? adapter = null)
        {
            string full = Existing("model", place);
            string called = name ?? Hub.HubCache.Called(full) + (adapter is null ? string.Empty : " + " + Path.GetFileName(adapter));
            return new StudyModel(called, full, adapter is null ? null : Existing("adapter", adapter));
        }

        // A path is seen from the study's own folder, so that a study can be run from anywhere; what is none may be a model of the Hub.
        string Existing(string what, string place)
        {
            string full = Path.GetFullPath(Path.Combine(folder, place));
            string found = Path.Exists(full) ? full : Hub.HubCache.Find(place);
            return Path.Exists(found) ? found : throw root.Missing(node, $"{what} '{place}' does not exist", $"looked for {full}, and for a model of this name in the Hub's cache (nibble pull)");
        }
    }

    private static StudyMethod Method(YamlMap root, YamlNode node, string activations)
    {
        YamlMap map = node is YamlScalarNode scalar
            ? root.Item("methods", new YamlMappingNode(new YamlScalarNode("method"), scalar))
            : root.Item("methods", node);
        string method = map.Text("method") ?? throw map.Refusal("an item of 'methods' needs a 'method'");
        string? label = map.Text("label");
        string? dtype = map.Choice("dtype", "f32", "bf16", "f16");
        bool baseline = map.Bool("baseline") ?? false;
        string chosen = map.Choice("activations", Activations) ?? activations;
        if (method == StudyMethod.BudgetName)
        {
            StudyMethod cell = Budget(map, node, label, chosen);
            map.RefuseUnknown();
            return cell;
        }

        QuantizationSettings settings = Settings(map, method);
        map.RefuseUnknown();
        try
        {
            QuantizationSettings? complete = method == "none" ? RequireNone(map, settings) : Complete(Registry.Method(method), settings);
            return new StudyMethod(label ?? Label(settings, dtype), complete, dtype, chosen, baseline);
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.Usage)
        {
            throw map.Refusal(node, error.What, error.Why, error.Remedy);
        }
    }

    // What depends on the model stays open: the cell's command decides it as 'nibble quantize' does.
    private static QuantizationSettings Complete(IQuantizationMethod method, QuantizationSettings settings)
    {
        QuantizationSettings complete = method.Complete(settings);
        bool depends = method.ForModel(settings, DType.BF16).ScaleDType != method.ForModel(settings, DType.F32).ScaleDType;
        return depends ? complete with { ScaleDType = null } : complete;
    }

    /// <summary>A cell whose plan is made within a budget: <c>budget: 3.25bpw</c>, or <c>max_bytes: 3.2GB</c>.</summary>
    private static StudyMethod Budget(YamlMap map, YamlNode node, string? label, string activations)
    {
        (string? bits, string? bytes) = (map.Text("budget"), map.Text("max_bytes"));
        if ((bits is null) == (bytes is null))
        {
            throw map.Refusal("method 'budget' takes one of 'budget' and 'max_bytes'", "one of them says how large the model may be", "for example budget: 3.25bpw");
        }

        try
        {
            BudgetRequest request = bits is not null ? BudgetRequest.ParseBits(bits) : BudgetRequest.ParseBytes(bytes!);
            return new StudyMethod(label ?? $"budget {bits ?? bytes}", null, null, activations, IsBaseline: false) { Budget = request };
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.Usage)
        {
            throw map.Refusal(node, error.What, error.Why, error.Remedy);
        }
    }

    private static QuantizationSettings Settings(YamlMap map, string method) => new()
    {
        Method = method,
        Bits = map.Int("bits", 1),
        GroupSize = map.Int("group_size", -1),
        Symmetric = map.Bool("symmetric"),
        BlockSize = map.Int("block_size", 1),
        DoubleQuant = map.Bool("double_quant"),
        Threshold = map.Float("threshold"),
        Axis = map.Int("axis", 0),
        ActOrder = map.Bool("act_order"),
        StaticGroups = map.Bool("static_groups"),
        Mse = map.Bool("mse"),
        Damping = map.Float("damping"),
        Compensate = map.Bool("compensate"),
        RepairRank = map.Int("repair_rank", 1),
        RepairIterations = map.Int("repair_iterations", 1),
        RepairWeighted = map.Bool("repair_weighted"),
        ActivationBits = map.Int("activation_bits", 1),
        ScaleDType = map.Choice("scale_dtype", "f32", "f16", "bf16") is { } dtype ? Enum.Parse<DType>(dtype, ignoreCase: true) : null,
    };

    private static QuantizationSettings? RequireNone(YamlMap map, QuantizationSettings settings) =>
        settings == new QuantizationSettings { Method = "none" } ? null : throw map.Refusal("method 'none' takes no quantization settings");

    private static string Label(QuantizationSettings settings, string? dtype)
    {
        string[] parts = [.. new[]
        {
            settings.Method == "none" ? dtype ?? "dense" : settings.Method,
            settings.Bits is { } bits ? $"{bits} bit" : null,
            settings.GroupSize is { } group ? $"g{group}" : null,
            settings.BlockSize is { } block ? $"block {block}" : null,
            settings.DoubleQuant == true ? "+ double quantization" : null,
            settings.Symmetric is { } symmetric ? symmetric ? "symmetric" : "asymmetric" : null,
            settings.ActOrder == true ? "act-order" : null,
            settings.Compensate == true ? "compensated" : null,
            settings.RepairRank is { } rank ? $"+ rank {rank}" : null,
            settings.ActivationBits is { } width ? $"+ {width}-bit activations" : null,
        }.OfType<string>()];
        return string.Join(' ', parts);
    }

    private static EvaluationOptions Tasks(YamlMap root)
    {
        if (root.IsList("tasks"))
        {
            return new EvaluationOptions { Tasks = [.. root.List("tasks").Select(node => Registry.Task(node.ToString()).Name)] };
        }

        if (root.Map("tasks") is not { } tasks)
        {
            return new EvaluationOptions { Tasks = ["perplexity", "latency"] };
        }

        EvaluationOptions options = new() { Tasks = [] };
        options = tasks.Map("perplexity") is { } perplexity ? Perplexity(perplexity, options) : options;
        options = tasks.Map("classification") is { } classification ? Classification(classification, options) : options;
        options = tasks.Map("latency") is { } latency ? Latency(latency, options) : options;
        tasks.RefuseUnknown();
        return options.Tasks.Count > 0 ? options : throw tasks.Refusal("a study needs at least one task");
    }

    private static EvaluationOptions Perplexity(YamlMap map, EvaluationOptions options)
    {
        options = options with
        {
            Tasks = [.. options.Tasks, "perplexity"],
            Data = map.Text("data") ?? options.Data,
            Protocol = map.Choice("protocol", Protocol.Names) ?? TextSource.ProtocolOf(map.Text("data") ?? options.Data),
            Window = map.Int("window", 2),
            Stride = map.Int("stride", 1),
            Limit = map.Int("limit", 2),
            Join = map.Choice("join", "raw", "hf") switch { "raw" => TextJoin.Raw, "hf" => TextJoin.Hf, _ => null },
        };
        map.RefuseUnknown();
        return options;
    }

    private static EvaluationOptions Classification(YamlMap map, EvaluationOptions options)
    {
        string data = map.Text("data") ?? throw map.Refusal("a classification needs 'data'");
        if (options.Tasks.Count > 0 && data != options.Data)
        {
            throw map.Refusal("perplexity and classification of one study must have the same 'data'", $"one says '{options.Data}', the other '{data}'", "make two studies");
        }

        options = options with
        {
            Tasks = [.. options.Tasks, "classification"],
            Data = data,
            Split = map.Choice("split", "train", "val", "test") ?? options.Split,
            Rows = map.Int("rows", 1),
            PromptTemplate = map.Text("prompt_template"),
        };
        map.RefuseUnknown();
        return options;
    }

    private static EvaluationOptions Latency(YamlMap map, EvaluationOptions options)
    {
        options = options with
        {
            Tasks = [.. options.Tasks, "latency"],
            PromptTokens = map.Int("prompt_tokens", 1) ?? options.PromptTokens,
            DecodeTokens = map.Int("decode_tokens", 1) ?? options.DecodeTokens,
            Runs = map.Int("runs", 1) ?? options.Runs,
        };
        map.RefuseUnknown();
        return options;
    }

    private static void Require(YamlMap root, IReadOnlyList<StudyModel> models, IReadOnlyList<StudyMethod> methods)
    {
        if (models.Count == 0 || methods.Count == 0)
        {
            throw root.Refusal($"a study needs '{(models.Count == 0 ? "models" : "methods")}'");
        }

        if (methods.Count(method => method.IsBaseline) > 1)
        {
            throw root.Refusal("more than one method is marked as the baseline");
        }

        string? unknown = models.SelectMany(model => model.Methods ?? []).FirstOrDefault(label => methods.All(method => method.Label != label));
        if (unknown is not null)
        {
            throw root.Refusal($"a model asks for the method '{unknown}'", $"the labels are {string.Join(", ", methods.Select(method => method.Label))}", "give one of them");
        }

        string? twice = methods.GroupBy(method => method.Label).FirstOrDefault(group => group.Count() > 1)?.Key
            ?? models.GroupBy(model => model.Name).FirstOrDefault(group => group.Count() > 1)?.Key;
        if (twice is not null)
        {
            throw root.Refusal($"'{twice}' stands in the study twice", "tables could not tell the two apart", "give one of them a 'label' (a model: a 'name')");
        }
    }

    // Without a mark the first dense method is what the others are compared with.
    private static IReadOnlyList<StudyMethod> WithBaseline(IReadOnlyList<StudyMethod> methods)
    {
        StudyMethod? baseline = methods.FirstOrDefault(method => method.IsBaseline) ?? methods.FirstOrDefault(method => method is { Settings: null, Budget: null });
        return [.. methods.Select(method => ReferenceEquals(method, baseline) ? method with { IsBaseline = true } : method)];
    }
}
