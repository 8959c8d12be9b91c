using System.Text;
using Nibble.Formats;

namespace Nibble.Models;

/// <summary>The sizes of the first LLaMA models: the built-in scaling table, for questions asked before anything is downloaded.</summary>
public static class KnownModels
{
    /// <summary>7B, 13B, 30B and 65B.</summary>
    public static IReadOnlyList<(string Name, ModelSizes Sizes)> Llama { get; } =
    [
        ("7B", Create(4096, 11008, 32, 32)),
        ("13B", Create(5120, 13824, 40, 40)),
        ("30B", Create(6656, 17920, 60, 52)),
        ("65B", Create(8192, 22016, 80, 64)),
    ];

    private static ModelSizes Create(int hidden, int intermediate, int layers, int heads)
    {
        string json = $$"""
            {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 2048, "hidden_size": {{hidden}},
             "intermediate_size": {{intermediate}}, "num_hidden_layers": {{layers}}, "num_attention_heads": {{heads}} }
            """;
        return ModelSizes.Of(ModelConfig.Parse(Encoding.UTF8.GetBytes(json), "built-in LLaMA sizes"));
    }
}
