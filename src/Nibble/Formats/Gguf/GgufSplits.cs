using System.Text.Json;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Formats;

/// <summary>The names by which GGUF calls the ways to cut a text before byte-pair encoding (<c>tokenizer.ggml.pre</c>).</summary>
internal static class GgufSplits
{
    private const string Gpt2 = "gpt-2", Llama3 = "llama-bpe", Qwen2 = "qwen2", Digits = "smollm";

    private static readonly Dictionary<string, string> Names = new()
    {
        [Gpt2] = Gpt2, ["gpt2"] = Gpt2, ["phi-2"] = Gpt2, ["mpt"] = Gpt2, ["olmo"] = Gpt2, ["jina-v2-code"] = Gpt2, ["roberta-bpe"] = Gpt2,
        [Llama3] = Llama3, ["llama3"] = Llama3, ["llama-v3"] = Llama3, ["falcon3"] = Llama3, ["pixtral"] = Llama3,
        [Qwen2] = Qwen2, ["stablelm2"] = Qwen2, ["deepseek-r1-qwen"] = Qwen2, ["megrez"] = Qwen2,
        [Digits] = Digits, ["starcoder"] = Digits, ["refact"] = Digits, ["codeshell"] = Digits,
    };

    /// <summary>True if a text begins with BOS although the file does not say so.</summary>
    public static bool AddsBos(string name) => Names.GetValueOrDefault(name) == Llama3;

    /// <summary>True if a piece that is a token as a whole is not merged from its parts.</summary>
    public static bool IgnoresMerges(string name) => Names.GetValueOrDefault(name) == Llama3;

    /// <summary>Writes <c>normalizer</c> and <c>pre_tokenizer</c> of a tokenizer.json.</summary>
    public static void Write(Utf8JsonWriter json, string name, string path)
    {
        if (!Names.TryGetValue(name, out string? split))
        {
            Throw.BadInput($"{path}: tokenizer.ggml.pre = {name} is not supported", $"known are {string.Join(", ", Names.Keys)}", "use the model's Hugging Face folder");
        }

        if (split == Qwen2)
        {
            json.WriteStartObject("normalizer");
            json.WriteString("type", "NFC");
            json.WriteEndObject();
        }

        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        WriteSplit(json, split);
        json.WriteStartObject();
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", true);
        json.WriteBoolean("use_regex", split is Gpt2 or Digits);
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>The name of what a tokenizer.json does, or null if GGUF has none.</summary>
    public static string? Recognize(JsonConfig? section)
    {
        JsonConfig[] parts = section == null ? [] : section.GetString("type") == "Sequence" ? [.. section.Sections("pretokenizers")] : [section];
        if (parts.Length is 0 or > 2 || parts[^1].GetString("type") != "ByteLevel" || parts[^1].GetBool("add_prefix_space", true))
        {
            return null;
        }

        bool regex = parts[^1].GetBool("use_regex", true);
        if (parts.Length == 1)
        {
            return regex ? Gpt2 : null;
        }

        return parts[0].GetString("type") switch
        {
            "Digits" => regex && parts[0].GetBool("individual_digits", false) ? Digits : null,
            "Split" => regex ? null : JsonSplitters.Pattern(parts[0]).Pattern switch
            {
                KnownPatterns.Llama3 => Llama3,
                KnownPatterns.Qwen2 => Qwen2,
                _ => null,
            },
            _ => null,
        };
    }

    private static void WriteSplit(Utf8JsonWriter json, string split)
    {
        if (split == Gpt2)
        {
            return;
        }

        json.WriteStartObject();
        json.WriteString("type", split == Digits ? "Digits" : "Split");
        if (split == Digits)
        {
            json.WriteBoolean("individual_digits", true);
        }
        else
        {
            json.WriteStartObject("pattern");
            json.WriteString("Regex", split == Llama3 ? KnownPatterns.Llama3 : KnownPatterns.Qwen2);
            json.WriteEndObject();
            json.WriteString("behavior", "Isolated");
            json.WriteBoolean("invert", false);
        }

        json.WriteEndObject();
    }
}
