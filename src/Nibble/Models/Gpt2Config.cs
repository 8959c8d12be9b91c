using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Models;

/// <summary>The keys of GPT-2's config.json that decide what is computed.</summary>
internal sealed record Gpt2Config
{
    public required string ModelType { get; init; }

    public required int Vocabulary { get; init; }

    public required int Positions { get; init; }

    public required int Hidden { get; init; }

    public required int Layers { get; init; }

    public required int Heads { get; init; }

    public required int Inner { get; init; }

    public required float Epsilon { get; init; }

    public required GeluKind Gelu { get; init; }

    public required bool Tied { get; init; }

    public required bool HeadBias { get; init; }

    public required bool ScaleByHeadDim { get; init; }

    public required bool ScaleByLayer { get; init; }

    /// <summary>Labels of the classification head; 0 for a language model.</summary>
    public required int Labels { get; init; }

    public ModelFacts Facts => new(ModelType, Vocabulary, Positions, Hidden, Layers, Heads, Heads, Hidden / Heads, Labels);

    public static Gpt2Config Read(ModelConfig config)
    {
        JsonConfig json = config.Text;
        int width = Limits.Default.ModelWidth;
        Gpt2Config result = new()
        {
            ModelType = config.ModelType,
            Vocabulary = json.GetInt("vocab_size", 50257, 1, width),
            Positions = json.GetInt("n_positions|n_ctx", 1024, 1, width),
            Hidden = json.GetInt("n_embd", 768, 1, width),
            Layers = json.GetInt("n_layer", 12, 1, Limits.Default.ModelLayers),
            Heads = json.GetInt("n_head", 12, 1, width),
            Inner = json.GetInt("n_inner", 4 * json.GetInt("n_embd", 768, 1, width), 1, width),
            Epsilon = (float)json.GetDouble("layer_norm_epsilon", 1e-5, 0, 1),
            Gelu = ReadGelu(json),
            Tied = json.GetBool("tie_word_embeddings", true),
            HeadBias = json.GetBool("lm_head_bias", false),
            ScaleByHeadDim = json.GetBool("scale_attn_weights", true),
            ScaleByLayer = json.GetBool("scale_attn_by_inverse_layer_idx", false),
            Labels = ClassificationHead.Labels(config),
        };
        if (result.Hidden % result.Heads != 0)
        {
            json.Refuse("n_head", $"the hidden size {result.Hidden} must be a multiple of it");
        }

        if (json.GetBool("add_cross_attention", false))
        {
            json.Refuse("add_cross_attention", "Nibble runs decoders that stand alone", "use a model without cross-attention");
        }

        return result;
    }

    private static GeluKind ReadGelu(JsonConfig json)
    {
        switch (json.GetString("activation_function", "gelu_new"))
        {
            case "gelu":
                return GeluKind.Exact;
            case "gelu_new" or "gelu_pytorch_tanh" or "gelu_fast":
                return GeluKind.Tanh;
            default:
                json.Refuse("activation_function", "supported are gelu, gelu_new, gelu_pytorch_tanh, gelu_fast");
                return default;
        }
    }
}
