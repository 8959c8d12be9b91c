using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Models;

/// <summary>Reads sizes from a config, each within its limits.</summary>
internal sealed class DimensionsReader(ModelConfig config, Limits limits)
{
    private readonly JsonConfig _text = config.Text;

    public ModelDimensions Gpt2()
    {
        int hidden = Width("n_embd|hidden_size");
        int heads = Heads("n_head|num_attention_heads", hidden);
        return new ModelDimensions
        {
            ModelType = config.ModelType,
            Family = ModelFamily.Gpt2,
            Vocabulary = Width("vocab_size"),
            Context = Width("n_positions|n_ctx|max_position_embeddings"),
            Hidden = hidden,
            Intermediate = Width("n_inner", 4 * hidden),
            Layers = Layers("n_layer|num_hidden_layers"),
            Heads = heads,
            KvHeads = heads,
            HeadDim = hidden / heads,
            Tied = _text.GetBool("tie_word_embeddings", true),
            HeadBias = _text.GetBool("lm_head_bias", false),
            QkvBias = true,
            OutputBias = true,
            MlpBias = true,
            Labels = Labels(),
        };
    }

    public ModelDimensions Llama()
    {
        int hidden = Width("hidden_size");
        int heads = _text.GetInt("num_attention_heads", max: limits.ModelWidth);
        bool explicitHeadDim = _text.Has("head_dim");
        int headDim = explicitHeadDim ? Width("head_dim") : hidden / Heads("num_attention_heads", hidden);
        int kvHeads = _text.GetInt("num_key_value_heads", heads, max: heads);
        if (heads % kvHeads != 0)
        {
            _text.Refuse("num_key_value_heads", $"the {heads} query heads are no multiple of it", "correct the file");
        }

        bool attentionBias = _text.GetBool("attention_bias", false);
        return new ModelDimensions
        {
            ModelType = config.ModelType,
            Family = ModelFamily.Llama,
            Vocabulary = Width("vocab_size"),
            Context = Width("max_position_embeddings", 2048),
            Hidden = hidden,
            Intermediate = Width("intermediate_size"),
            Layers = Layers("num_hidden_layers"),
            Heads = heads,
            KvHeads = kvHeads,
            HeadDim = headDim,
            Tied = _text.GetBool("tie_word_embeddings", false),
            HeadBias = _text.GetBool("lm_head_bias", false),
            QkvBias = attentionBias || config.ModelType == "qwen2",
            OutputBias = attentionBias,
            MlpBias = _text.GetBool("mlp_bias", false),
            QkNorm = config.ModelType == "qwen3",
            SubNorms = config.ModelType == "bitnet",
            Labels = Labels(),
            SlidingWindow = _text.GetBool("use_sliding_window", config.ModelType == "mistral")
                ? _text.GetInt("sliding_window", 0, min: 0)
                : 0,
        };
    }

    private int Width(string key, int? fallback = null) => _text.GetInt(key, fallback, max: limits.ModelWidth);

    private int Layers(string key) => _text.GetInt(key, max: limits.ModelLayers);

    private int Heads(string key, int hidden)
    {
        int heads = _text.GetInt(key, max: limits.ModelWidth);
        if (hidden % heads != 0)
        {
            _text.Refuse(key, $"the hidden size {hidden} is no multiple of it", "correct the file");
        }

        return heads;
    }

    private int Labels()
    {
        if (!config.Architectures.Any(name => name.EndsWith("ForSequenceClassification", StringComparison.Ordinal)))
        {
            return 0;
        }

        int names = _text.Section("id2label")?.Element.EnumerateObject().Count() ?? 0;
        return names > 0 ? names : _text.GetInt("num_labels", 2, max: limits.ModelWidth);
    }
}
