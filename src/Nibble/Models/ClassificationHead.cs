using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Formats;

namespace Nibble.Models;

/// <summary>What transformers' <c>…ForSequenceClassification</c> adds to a causal model: a head <c>score</c> without bias.</summary>
internal static class ClassificationHead
{
    private const int DefaultLabels = 2;

    /// <summary>Labels of the head, or 0 if the config describes a language model.</summary>
    public static int Labels(ModelConfig config)
    {
        if (!config.Architectures.Any(name => name.EndsWith("ForSequenceClassification", StringComparison.Ordinal)))
        {
            return 0;
        }

        JsonConfig json = config.Root;
        int named = json.Section("id2label")?.Element.EnumerateObject().Count() ?? DefaultLabels;
        return json.GetInt("num_labels|_num_labels", named, 1, 1 << 20);
    }

    /// <summary>Names of the labels in the order of the head: those of <c>id2label</c>, or LABEL_0 …</summary>
    public static IReadOnlyList<string> Names(ModelConfig config)
    {
        string[] names = [.. Enumerable.Range(0, Labels(config)).Select(id => $"LABEL_{id}")];
        foreach (JsonProperty label in config.Root.Section("id2label")?.Element.EnumerateObject() ?? Enumerable.Empty<JsonProperty>())
        {
            if (int.TryParse(label.Name, out int id) && id >= 0 && id < names.Length && label.Value.ValueKind == JsonValueKind.String)
            {
                names[id] = label.Value.GetString()!;
            }
        }

        return names;
    }

    /// <summary>The config of the same model with a classification head of these labels, as transformers writes it.</summary>
    public static ModelConfig With(ModelConfig config, IReadOnlyList<string> labels)
    {
        JsonObject root = JsonNode.Parse(config.Root.Element.GetRawText())!.AsObject();
        string family = config.Architectures is [var name, ..] ? Family(name) : string.Concat(config.ModelType[..1].ToUpperInvariant(), config.ModelType.AsSpan(1));
        root["architectures"] = new JsonArray($"{family}ForSequenceClassification");
        root["id2label"] = new JsonObject(labels.Select((label, id) => KeyValuePair.Create<string, JsonNode?>($"{id}", label)));
        root["label2id"] = new JsonObject(labels.Select((label, id) => KeyValuePair.Create<string, JsonNode?>(label, id)));
        root.Remove("num_labels");
        root.Remove("_num_labels");
        if (root["quantization_config"] is null && config.Quantization is { } quantization)
        {
            root["quantization_config"] = JsonNode.Parse(quantization.Element.GetRawText());
        }

        // transformers finds the last real position by this id and refuses batches without it.
        if (root["pad_token_id"] is null && config.Text.GetInts("eos_token_id") is [var end, ..])
        {
            root["pad_token_id"] = end;
        }

        return ModelConfig.Parse(Encoding.UTF8.GetBytes(root.ToJsonString()), config.Path);
    }

    private static string Family(string architecture)
    {
        int end = new[] { "LMHeadModel", "ForCausalLM", "ForSequenceClassification", "Model" }
            .Select(suffix => architecture.EndsWith(suffix, StringComparison.Ordinal) ? architecture.Length - suffix.Length : -1)
            .FirstOrDefault(length => length > 0, architecture.Length);
        return architecture[..end];
    }
}
