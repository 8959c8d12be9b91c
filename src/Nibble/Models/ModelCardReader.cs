using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Models;

/// <summary>Collects what a <see cref="ModelCard"/> says.</summary>
internal sealed class ModelCardReader(string path, Limits limits)
{
    private const string AdapterConfig = "adapter_config.json";

    private static readonly string[] QuantizationKeys =
    [
        "bits", "w_bit", "group_size", "q_group_size", "desc_act", "sym", "zero_point", "version", "checkpoint_format", "load_in_8bit",
        "load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "llm_int8_threshold", "linear_class", "quantization_mode",
        "format", "modules_to_not_convert", "ignore",
    ];

    private static readonly string[] AdapterKeys =
        ["peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "num_virtual_tokens"];

    private readonly string _folder = Directory.Exists(path) ? path : Path.GetDirectoryName(Path.GetFullPath(path))!;

    public ModelCard Read()
    {
        if (!Path.Exists(path))
        {
            throw Hub.HubCache.Absent(path);
        }

        if (GgufFile.Names(path) && !Directory.Exists(path))
        {
            return ReadGguf();
        }

        HfShards.RefusePickle(path);
        bool hasConfig = File.Exists(Path.Combine(_folder, "config.json"));
        if (Directory.Exists(path) && !hasConfig && File.Exists(Path.Combine(path, AdapterConfig)))
        {
            return ReadAdapter();
        }

        if (!hasConfig)
        {
            return Directory.Exists(path) ? RefuseFolder() : ReadLooseFile();
        }

        ModelConfig config = ModelConfig.Open(path, limits);
        return WithConfig(HasWeights() ? ReadModel() : new ModelCard { Path = path, Kind = "config" }, config);
    }

    private bool HasWeights() =>
        path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase)
        || File.Exists(Path.Combine(_folder, HfShards.SingleName))
        || File.Exists(Path.Combine(_folder, HfShards.IndexName));

    private ModelCard ReadModel()
    {
        using HfFolder model = HfFolder.Open(path.EndsWith("config.json", StringComparison.Ordinal) ? _folder : path, limits);
        return WithFiles(new ModelCard { Path = path, Kind = "model", Warnings = model.Warnings }, model.Shards);
    }

    private ModelCard ReadLooseFile()
    {
        if (!path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase))
        {
            Throw.BadInput($"{path} is of no form that is shown", "shown are model folders, adapter folders, .safetensors and .gguf files");
        }

        return ReadFile(path, "file");
    }

    private ModelCard ReadGguf()
    {
        using GgufFile file = GgufFile.Open(path, limits);
        string? architecture = file.Metadata["general.architecture"] is { Kind: GgufKind.String } value ? value.Text() : null;
        ModelSizes? sizes = GgufConfig.IsKnown(file) ? ModelSizes.TryOf(GgufConfig.Of(file)) : null;
        return new ModelCard
        {
            Path = path,
            Kind = "gguf",
            ModelType = architecture,
            Sizes = sizes?.Facts,
            Attention = sizes?.Attention,
            ParameterParts = sizes?.Parameters,
            Parameters = sizes?.Parameters.Total ?? file.Tensors.Sum(tensor => tensor.Count),
            Files = 1,
            FileBytes = file.FileBytes,
            Metadata = file.Metadata.Values.ToDictionary(item => item.Key, item => Shorten(item.ToString())),
            Tokenizer = file.Metadata["tokenizer.ggml.model"] is { Kind: GgufKind.String } model ? [$"in the file ({model.Text()})"] : [],
            Tensors = file.Tensors.GroupBy(tensor => tensor.Type)
                .Select(group => new DTypeShare(group.Key.ToString(), group.Count(), group.Sum(tensor => tensor.Count), group.Sum(tensor => tensor.ByteLength)))
                .OrderByDescending(share => share.Bytes)
                .ToArray(),
            Warnings = sizes == null ? [$"architecture {architecture ?? "unknown"} is none that can be run ({string.Join(", ", GgufConfig.Architectures)})"] : [],
        };
    }

    private static string Shorten(string text) => text.Length > 80 ? text[..80] + "…" : text;

    private ModelCard ReadFile(string file, string kind)
    {
        using SafetensorsFile tensors = SafetensorsFile.Open(file, limits);
        ModelCard card = WithFiles(new ModelCard { Path = path, Kind = kind }, [tensors]);
        return card with { Parameters = DenseElements(card.Tensors) };
    }

    private ModelCard ReadAdapter()
    {
        JsonConfig config = JsonConfig.Open(Path.Combine(path, AdapterConfig), limits);
        string weights = Path.Combine(path, "adapter_model.safetensors");
        ModelCard card = File.Exists(weights) ? ReadFile(weights, "adapter") : new ModelCard { Path = path, Kind = "adapter" };
        return card with { Adapter = Settings(config, AdapterKeys), Tokenizer = TokenizerFiles() };
    }

    private ModelCard RefuseFolder()
    {
        string[] files = Directory.GetFiles(path, "*.safetensors").Select(file => Path.GetFileName(file)).Order().ToArray();
        Throw.NotFound(
            $"{path} has no config.json and no {AdapterConfig}",
            files.Length == 0 ? "it holds no .safetensors file either" : $"it holds {string.Join(", ", files.Take(10))}",
            files.Length == 0 ? "give the folder of a Hugging Face model" : "give one of these files");
        return null;
    }

    private static ModelCard WithFiles(ModelCard card, IReadOnlyList<SafetensorsFile> files) => card with
    {
        Files = files.Count,
        FileBytes = files.Sum(file => file.FileBytes),
        Metadata = files.Count > 0 && files[0].Metadata.Count > 0 ? files[0].Metadata.ToDictionary() : null,
        Tensors = files.SelectMany(file => file.Entries.Values)
            .GroupBy(entry => entry.DTypeName)
            .Select(group => new DTypeShare(group.Key, group.Count(), group.Sum(entry => entry.Count), group.Sum(entry => entry.ByteLength)))
            .OrderByDescending(share => share.Bytes)
            .ToArray(),
    };

    private ModelCard WithConfig(ModelCard card, ModelConfig config)
    {
        ModelSizes? sizes = ModelSizes.TryOf(config);
        List<string> warnings = [.. card.Warnings, .. OddWeightFiles(card)];
        if (sizes == null)
        {
            warnings.Add($"model_type {config.ModelType} is of no family whose sizes are known ({string.Join(", ", Registry.Architectures.SelectMany(family => family.ModelTypes))})");
        }

        return card with
        {
            ModelType = config.ModelType,
            Architecture = config.Architectures.FirstOrDefault(),
            Sizes = sizes?.Facts,
            Attention = sizes?.Attention,
            ParameterParts = sizes?.Parameters,
            Parameters = sizes?.Parameters.Total ?? (config.QuantMethod == null && card.Tensors.Count > 0 ? DenseElements(card.Tensors) : null),
            QuantMethod = config.QuantMethod,
            Quantization = config.Quantization == null ? null : Settings(config.Quantization, QuantizationKeys),
            Tokenizer = TokenizerFiles(),
            Warnings = warnings,
        };
    }

    private IEnumerable<string> OddWeightFiles(ModelCard card)
    {
        string[] files = card.Kind == "config" ? Directory.GetFiles(_folder, "*.safetensors") : [];
        return files.Select(file => $"{Path.GetFileName(file)} is not a name that holds a model's weights ({HfShards.SingleName}, or shards with an index); to see it: nibble show {file}");
    }

    private static long DenseElements(IReadOnlyList<DTypeShare> tensors) =>
        tensors.Where(share => share.Dtype is "F64" or "F32" or "F16" or "BF16").Sum(share => share.Elements);

    private static Dictionary<string, string> Settings(JsonConfig config, string[] keys) =>
        keys.Where(key => config.Has(key)).ToDictionary(key => key, key => Text(config.Element.GetProperty(key)));

    private static string Text(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => string.Join(", ", value.EnumerateArray().Select(Text)),
        JsonValueKind.Null => "null",
        _ => value.ToString(),
    };

    private string[] TokenizerFiles() => HfFolderWriter.TokenizerFiles
        .Where(name => name != "generation_config.json" && File.Exists(Path.Combine(_folder, name)))
        .ToArray();
}
