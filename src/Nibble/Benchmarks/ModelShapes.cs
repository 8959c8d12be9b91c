using System.Text;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Benchmarks;

/// <summary>Shapes of well-known models, for measuring speed where the model itself can't be had: random weights are as fast as real ones.</summary>
public static class ModelShapes
{
    private static readonly (string Name, string Json)[] All =
    [
        ("gpt2-10m", Gpt2(8192, 512, 256, 10, 4)),
        ("gpt2-124m", Gpt2(50257, 1024, 768, 12, 12)),
        ("gpt2-355m", Gpt2(50257, 1024, 1024, 24, 16)),
        ("llama-1.1b", Llama(32000, 2048, 2048, 5632, 22, 32, 4)),
        ("llama-7b", Llama(32000, 4096, 4096, 11008, 32, 32, 32)),
    ];

    /// <summary>The names that <see cref="Config"/> knows.</summary>
    public static IReadOnlyList<string> Names => [.. All.Select(item => item.Name)];

    /// <summary>The configuration of a name.</summary>
    /// <exception cref="NibbleException">There is none of this name; the message lists them.</exception>
    public static ModelConfig Config(string name)
    {
        if (Array.Find(All, item => item.Name == name) is not { Json: { } json })
        {
            Throw.Usage($"no shapes \"{name}\"", null, "choose from: " + string.Join(", ", Names));
            return null;
        }

        return ModelConfig.Parse(Encoding.UTF8.GetBytes(json), "shapes " + name);
    }

    private static string Gpt2(int vocabulary, int context, int width, int layers, int heads) =>
        $$"""
        {"model_type": "gpt2", "vocab_size": {{vocabulary}}, "n_positions": {{context}}, "n_embd": {{width}}, "n_layer": {{layers}},
         "n_head": {{heads}}, "activation_function": "gelu_new"}
        """;

    private static string Llama(int vocabulary, int context, int width, int intermediate, int layers, int heads, int kvHeads) =>
        $$"""
        {"model_type": "llama", "vocab_size": {{vocabulary}}, "max_position_embeddings": {{context}}, "hidden_size": {{width}},
         "intermediate_size": {{intermediate}}, "num_hidden_layers": {{layers}}, "num_attention_heads": {{heads}},
         "num_key_value_heads": {{kvHeads}}, "tie_word_embeddings": false}
        """;
}
