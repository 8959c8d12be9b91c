using System.Text;
using System.Text.Json.Nodes;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>A model's <c>config.json</c>.</summary>
public sealed class ModelConfig
{
    private ModelConfig(JsonConfig root, JsonConfig? quantization)
    {
        Root = root;
        JsonConfig? text = root.Section("text_config");
        Text = text != null && (text.Has("hidden_size|n_embd") || !root.Has("hidden_size|n_embd")) ? text : root;
        ModelType = Text.GetString("model_type", null) ?? root.GetString("model_type");
        Architectures = root.GetStrings("architectures");
        Quantization = root.Section("quantization_config") ?? Text.Section("quantization_config") ?? quantization;
        QuantMethod = Quantization == null ? null : QuantMethods.Recognize(Quantization);
        DTypeName = Text.GetString("dtype|torch_dtype", null) ?? root.GetString("dtype|torch_dtype", null);
    }

    /// <summary>The file.</summary>
    public string Path => Root.Source;

    /// <summary>The whole document.</summary>
    public JsonConfig Root { get; }

    /// <summary>The part that describes the language model: the document, or its <c>text_config</c> in multimodal models.</summary>
    public JsonConfig Text { get; }

    /// <summary>The name that selects the architecture, for example <c>llama</c>.</summary>
    public string ModelType { get; }

    /// <summary>The classes that transformers would build, for example <c>LlamaForCausalLM</c>.</summary>
    public IReadOnlyList<string> Architectures { get; }

    /// <summary>The <c>quantization_config</c> section (or the older <c>quantize_config.json</c>), or null for a dense model.</summary>
    public JsonConfig? Quantization { get; }

    /// <summary>The quantization layout's name, for example <c>gptq</c>; null for a dense model.</summary>
    public string? QuantMethod { get; }

    /// <summary>The element type that the config states, for example <c>bfloat16</c>.</summary>
    public string? DTypeName { get; }

    /// <summary>The same as a dtype; F32 where the config states none, or one that is no plain float.</summary>
    internal DType StoredDType => DTypeName switch { "bfloat16" => DType.BF16, "float16" => DType.F16, _ => DType.F32 };

    /// <summary>Reads the config of a model: give its folder, its config.json, or a weights file beside the config.</summary>
    public static ModelConfig Open(string path, Limits? limits = null)
    {
        string folder = Directory.Exists(path) ? path : System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
        string file = !Directory.Exists(path) && path.EndsWith(".json", StringComparison.OrdinalIgnoreCase)
            ? path
            : System.IO.Path.Combine(folder, "config.json");
        if (!System.IO.Path.Exists(path))
        {
            throw Hub.HubCache.Absent(path);
        }

        if (path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase))
        {
            Throw.BadInput($"{path} is a GGUF file", "this work needs a Hugging Face folder; GGUF files are run, measured, shown and converted as they are", $"make a folder of it first: nibble convert {path} FOLDER");
        }

        if (File.Exists(path) && !path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase) && file != path && !HfShards.IsPickle(path))
        {
            Throw.BadInput($"{path} is no model", "a model is a folder with config.json, weights and a tokenizer, or one .safetensors or .gguf file", "give one of these");
        }

        if (!File.Exists(file))
        {
            Throw.NotFound($"{path} has no config.json", "the config says which architecture the weights belong to", "give the folder of a Hugging Face model");
        }

        JsonConfig? quantization = new[] { "quantize_config.json", "quant_config.json" }
            .Select(name => System.IO.Path.Combine(folder, name))
            .Where(File.Exists)
            .Select(name => JsonConfig.Open(name, limits))
            .FirstOrDefault() ?? QuantoSection(folder, limits);
        return new ModelConfig(JsonConfig.Open(file, limits), quantization);
    }

    /// <summary>optimum-quanto writes no section, only its map of modules.</summary>
    private static JsonConfig? QuantoSection(string folder, Limits? limits)
    {
        string map = System.IO.Path.Combine(folder, "quanto_qmap.json");
        if (!File.Exists(map))
        {
            return null;
        }

        JsonConfig modules = JsonConfig.Open(map, limits);
        string[] kinds = [.. modules.Element.EnumerateObject().Select(module => modules.Section(module.Name)?.GetString("activations", "none") ?? "none").Distinct()];
        if (kinds.Length > 1)
        {
            Throw.BadInput($"{map}: modules differ in their activations ({string.Join(", ", kinds)})", "Nibble reads models that round activations in all quantized layers or in none", "quantize the model again, all modules alike");
        }

        return JsonConfig.Parse(Encoding.UTF8.GetBytes(new JsonObject { ["quant_method"] = "quanto", ["activations"] = kinds.FirstOrDefault() ?? "none" }.ToJsonString()), map);
    }

    /// <summary>Reads a config from memory.</summary>
    public static ModelConfig Parse(ReadOnlySpan<byte> json, string source, Limits? limits = null) => new(JsonConfig.Parse(json, source, limits), null);
}
