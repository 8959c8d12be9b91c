using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.IO;
using Nibble.Tuning;

namespace Nibble.Formats;

/// <summary><c>adapter_config.json</c> of PEFT: what an adapter is and where it goes.</summary>
public static class PeftConfig
{
    /// <summary>Name of the config.</summary>
    public const string FileName = "adapter_config.json";

    /// <summary>Name of the weights.</summary>
    public const string WeightsName = "adapter_model.safetensors";

    private const int MostRank = 1 << 20;

    // What changes the arithmetic or brings weights beyond A and B: as plain LoRA it would give wrong numbers without a word.
    private static readonly string[] Unsupported =
    [
        "use_qalora", "use_bdlora", "lora_bias", "alora_invocation_tokens", "layer_replication", "trainable_token_indices", "target_parameters",
        "kasa_config", "velora_config", "monteclora_config", "arrow_config", "megatron_config", "corda_config", "eva_config", "lora_ga_config",
    ];

    /// <summary>Opens the config of an adapter folder.</summary>
    public static JsonConfig Open(string folder)
    {
        string path = Path.Combine(folder, FileName);
        if (File.Exists(path))
        {
            return JsonConfig.Open(path);
        }

        Throw.NotFound(
            $"{folder} has no {FileName}",
            File.Exists(Path.Combine(folder, "adapters.safetensors")) ? "it looks like an adapter of mlx-lm, which has another form" : "an adapter is a folder in PEFT's form",
            "give the folder that PEFT's save_pretrained or nibble finetune wrote");
        return null;
    }

    /// <summary>Reads the settings of a LoRA adapter; known settings that are not supported are refused, unknown ones do not matter.</summary>
    public static LoraSettings ReadLora(JsonConfig json)
    {
        foreach (string key in Unsupported.Where(key => IsOn(json, key)))
        {
            json.Refuse(key, "this variant of LoRA is not supported", "merge the adapter with PEFT first (merge_and_unload), then use the merged model");
        }

        if (json.GetString("bias", "none") != "none")
        {
            json.Refuse("bias", "adapters that train biases are not supported", "merge the adapter with PEFT first");
        }

        (IReadOnlyList<string> targets, bool regex) = Names(json, "target_modules");
        (IReadOnlyList<string> excludes, bool excludeRegex) = Names(json, "exclude_modules");
        return new LoraSettings
        {
            Rank = json.GetInt("r", 8, 1, MostRank),
            Alpha = json.GetDouble("lora_alpha", 8),
            Dropout = json.GetDouble("lora_dropout", 0, 0, 1),
            TargetModules = targets,
            TargetsAreRegex = regex,
            ExcludeModules = excludes,
            ExcludesAreRegex = excludeRegex,
            Layers = json.GetInts("layers_to_transform", 0),
            RankPattern = Numbers(json, "rank_pattern", value => value >= 1 && value <= MostRank && value == Math.Floor(value)).ToDictionary(item => item.Key, item => (int)item.Value),
            AlphaPattern = Numbers(json, "alpha_pattern", double.IsFinite),
            UseRsLora = json.GetBool("use_rslora", false),
            UseDora = json.GetBool("use_dora", false),
            BaseModel = json.GetString("base_model_name_or_path", null),
        };
    }

    /// <summary>The values of a LoRA adapter's config.</summary>
    /// <param name="settings">The settings; targets are written as they were given.</param>
    /// <param name="targets">The names to write when none were given or all linear layers were meant.</param>
    /// <param name="transposed">The base stores its matrices transposed (Conv1D).</param>
    internal static Dictionary<string, object?> Lora(LoraSettings settings, IEnumerable<string> targets, bool transposed)
    {
        bool expand = settings.TargetModules is [] or [TargetModules.AllLinear];
        return new Dictionary<string, object?>
        {
            ["alpha_pattern"] = settings.AlphaPattern,
            ["base_model_name_or_path"] = settings.BaseModel,
            ["bias"] = "none",
            ["exclude_modules"] = settings.ExcludesAreRegex ? settings.ExcludeModules[0] : settings.ExcludeModules is [] ? null : settings.ExcludeModules,
            ["fan_in_fan_out"] = transposed,
            ["init_lora_weights"] = true,
            ["layers_pattern"] = null,
            ["layers_to_transform"] = settings.Layers is [] ? null : settings.Layers,
            ["loftq_config"] = new Dictionary<string, int>(),
            ["lora_alpha"] = settings.Alpha == Math.Floor(settings.Alpha) ? (long)settings.Alpha : settings.Alpha,
            ["lora_bias"] = false,
            ["lora_dropout"] = settings.Dropout,
            ["megatron_config"] = null,
            ["megatron_core"] = "megatron.core",
            ["peft_type"] = "LORA",
            ["r"] = settings.Rank,
            ["rank_pattern"] = settings.RankPattern,
            ["target_modules"] = settings.TargetsAreRegex ? settings.TargetModules[0] : expand ? targets.Distinct().Order(StringComparer.Ordinal) : settings.TargetModules,
            ["use_dora"] = settings.UseDora,
            ["use_rslora"] = settings.UseRsLora,
        };
    }

    /// <summary>Writes a config, keys sorted as PEFT does.</summary>
    internal static void Write(string path, SortedDictionary<string, object?> values)
    {
        JsonSerializerOptions options = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        JsonObject config = new(values.Select(item => KeyValuePair.Create(item.Key, Node(item.Value))));
        AtomicFile.WriteAllText(path, config.ToJsonString(options));
    }

    private static JsonNode? Node(object? value) => value switch
    {
        null => null,
        string text => JsonValue.Create(text),
        bool flag => JsonValue.Create(flag),
        int number => JsonValue.Create(number),
        long number => JsonValue.Create(number),
        float number => JsonValue.Create(number),
        double number => JsonValue.Create(number),
        IEnumerable<KeyValuePair<string, int>> map => new JsonObject(map.Select(item => KeyValuePair.Create(item.Key, Node(item.Value)))),
        IEnumerable<KeyValuePair<string, double>> map => new JsonObject(map.Select(item => KeyValuePair.Create(item.Key, Node(item.Value)))),
        IEnumerable<string> texts => new JsonArray([.. texts.Select(text => Node(text))]),
        IEnumerable<int> numbers => new JsonArray([.. numbers.Select(number => Node(number))]),
        _ => throw new ArgumentException($"a config of PEFT holds no {value.GetType().Name}"),
    };

    private static bool IsOn(JsonConfig json, string key) =>
        json.Element.TryGetProperty(key, out JsonElement value) && value.ValueKind switch
        {
            JsonValueKind.Null or JsonValueKind.False => false,
            JsonValueKind.Array => value.GetArrayLength() > 0,
            JsonValueKind.Object => value.EnumerateObject().Any(),
            _ => true,
        };

    /// <summary>Names of modules: a list, or one regular expression.</summary>
    internal static (IReadOnlyList<string> Names, bool IsRegex) Names(JsonConfig json, string key)
    {
        bool single = json.Element.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.String;
        IReadOnlyList<string> names = json.GetStrings(key);
        return (names, single && names is not [TargetModules.AllLinear]);
    }

    /// <summary>Numbers by patterns of names, which may hold any character.</summary>
    private static Dictionary<string, double> Numbers(JsonConfig json, string key, Func<double, bool> fits)
    {
        Dictionary<string, double> numbers = [];
        foreach (JsonProperty item in json.Section(key)?.Element.EnumerateObject() ?? Enumerable.Empty<JsonProperty>())
        {
            double number = item.Value.ValueKind == JsonValueKind.Number && item.Value.TryGetDouble(out double read) ? read : double.NaN;
            if (!fits(number))
            {
                json.Refuse(key, $"the value of '{item.Name}' is none that a {key[..key.IndexOf('_', StringComparison.Ordinal)]} can have", "correct the file");
            }

            numbers[item.Name] = number;
        }

        return numbers;
    }
}
