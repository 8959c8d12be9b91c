using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.SystemTests;

/// <summary>A LLaMA-type model of one small layer with random weights and the embedded tokenizer: starts and steps in no time.</summary>
internal static class TinyModel
{
    /// <param name="folder">A new folder.</param>
    /// <param name="vocabulary">Rows of the embedding; more than the tokenizer has tokens make the file large. Null for as many.</param>
    public static void Write(string folder, int? vocabulary = null)
    {
        const int hidden = 16, inner = 24;
        string source = Path.Combine(Repository.Root, "assets", "nibble-llama-4m");
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(source, "tokenizer.json"), Path.Combine(folder, "tokenizer.json"));
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "config.json")))!.AsObject();
        foreach ((string key, int value) in new[] { ("hidden_size", hidden), ("intermediate_size", inner), ("num_hidden_layers", 1), ("num_attention_heads", 2), ("num_key_value_heads", 2), ("head_dim", 8) })
        {
            config[key] = value;
        }

        config["dtype"] = "float32";
        config["vocab_size"] = vocabulary ?? config["vocab_size"]!.GetValue<int>();
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        (string Name, Shape Shape)[] tensors =
        [
            ("model.embed_tokens.weight", new Shape(config["vocab_size"]!.GetValue<int>(), hidden)),
            .. new[] { "q", "k", "v", "o" }.Select(name => ($"model.layers.0.self_attn.{name}_proj.weight", new Shape(hidden, hidden))),
            ("model.layers.0.mlp.gate_proj.weight", new Shape(inner, hidden)),
            ("model.layers.0.mlp.up_proj.weight", new Shape(inner, hidden)),
            ("model.layers.0.mlp.down_proj.weight", new Shape(hidden, inner)),
            ("model.layers.0.input_layernorm.weight", new Shape(hidden)),
            ("model.layers.0.post_attention_layernorm.weight", new Shape(hidden)),
            ("model.norm.weight", new Shape(hidden)),
        ];
        Random random = new(1);
        Safetensors.Save(Path.Combine(folder, "model.safetensors"), [.. tensors.Select(item =>
        {
            float[] values = [.. Enumerable.Range(0, (int)item.Shape.Count).Select(_ => (float)((random.NextDouble() - 0.5) * 0.4) + (item.Shape.Rank == 1 ? 1 : 0))];
            return (item.Name, Tensor.From<float>(item.Shape, DType.F32, values));
        })]);
    }
}
