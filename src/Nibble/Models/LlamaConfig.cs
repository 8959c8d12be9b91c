using Nibble.Formats;
using Nibble.IO;
using Nibble.Nn;

namespace Nibble.Models;

/// <summary>
/// The keys of the LLaMA family's config.json that decide what is computed. The members of the family differ in few places: which
/// projections have biases, norms of queries and keys, sliding windows, and BitNet's norms and products.
/// </summary>
internal sealed record LlamaConfig
{
    public required string ModelType { get; init; }

    public required int Vocabulary { get; init; }

    public required int Positions { get; init; }

    public required int Hidden { get; init; }

    public required int Inner { get; init; }

    public required int Layers { get; init; }

    public required int Heads { get; init; }

    public required int KvHeads { get; init; }

    public required int HeadDim { get; init; }

    public required float Epsilon { get; init; }

    public required RopeSettings Rope { get; init; }

    public required bool Tied { get; init; }

    public required bool HeadBias { get; init; }

    public required bool QkvBias { get; init; }

    public required bool OutputBias { get; init; }

    public required bool MlpBias { get; init; }

    /// <summary>Labels of the classification head; 0 for a language model.</summary>
    public required int Labels { get; init; }

    /// <summary>Window of each layer; 0 sees everything.</summary>
    public required IReadOnlyList<int> Windows { get; init; }

    /// <summary>RMSNorm of each query and key head (Qwen3).</summary>
    public bool QkNorm => ModelType == "qwen3";

    /// <summary>Blocks without norms of their own, linear layers that normalize their input (BitNet as bitllama2.c trains it).</summary>
    public bool BitLlama => ModelType == "bitllama";

    /// <summary>Norms before the output projections and a squared ReLU (BitNet b1.58 2B4T).</summary>
    public bool BitNet => ModelType == "bitnet";

    public ModelFacts Facts => new(ModelType, Vocabulary, Positions, Hidden, Layers, Heads, KvHeads, HeadDim, Labels);

    public static LlamaConfig Read(ModelConfig config)
    {
        JsonConfig json = config.Text;
        int width = Limits.Default.ModelWidth;
        int hidden = json.GetInt("hidden_size", null, 1, width);
        int heads = json.GetInt("num_attention_heads", null, 1, width);
        int layers = json.GetInt("num_hidden_layers", null, 1, Limits.Default.ModelLayers);
        LlamaDefaults defaults = LlamaDefaults.Of(config.ModelType);
        bool attentionBias = json.GetBool("attention_bias", false);
        LlamaConfig result = new()
        {
            ModelType = config.ModelType,
            Vocabulary = json.GetInt("vocab_size", null, 1, width),
            Positions = json.GetInt("max_position_embeddings", defaults.Positions, 1),
            Hidden = hidden,
            Inner = json.GetInt("intermediate_size", null, 1, width),
            Layers = layers,
            Heads = heads,
            // Where an absent key means a number, null still means: as many as there are query heads.
            KvHeads = json.GetInt("num_key_value_heads", json.IsNull("num_key_value_heads") ? heads : defaults.KvHeads ?? heads, 1, width),
            HeadDim = json.GetInt("head_dim", defaults.HeadDim ?? Math.Max(1, hidden / heads), 1, width),
            Epsilon = (float)json.GetDouble("rms_norm_eps", defaults.Epsilon, 0, 1),
            Rope = RopeSettings.Read(json, defaults.Theta),
            Tied = json.GetBool("tie_word_embeddings", false),
            HeadBias = json.GetBool("lm_head_bias", false),
            // Qwen2 always has them and has no key for it; Mistral never has.
            QkvBias = config.ModelType == "qwen2" || (config.ModelType != "mistral" && attentionBias),
            OutputBias = config.ModelType is not ("qwen2" or "mistral") && attentionBias,
            MlpBias = config.ModelType == "llama" && json.GetBool("mlp_bias", false),
            Labels = ClassificationHead.Labels(config),
            Windows = ReadWindows(config.ModelType, json, layers),
        };
        result.Require(json);
        return result;
    }

    private void Require(JsonConfig json)
    {
        string expected = BitNet ? "relu2" : "silu";
        if (json.GetString("hidden_act", expected) is { } activation && activation != expected && !(activation == "swish" && expected == "silu"))
        {
            json.Refuse("hidden_act", $"model_type '{ModelType}' is supported with {expected}");
        }

        if (Heads % KvHeads != 0)
        {
            json.Refuse("num_key_value_heads", json.Has("num_key_value_heads")
                ? $"the {Heads} query heads must be a multiple of it"
                : $"it then means {KvHeads}, and the {Heads} query heads must be a multiple of that");
        }

        if ((long)Heads * HeadDim > Limits.Default.ModelWidth)
        {
            json.Refuse("num_attention_heads", $"times a head of {HeadDim} it is wider than the {Limits.Default.ModelWidth:N0} that are read");
        }

        if (!json.Has("head_dim") && LlamaDefaults.Of(ModelType).HeadDim is null && Hidden % Heads != 0)
        {
            json.Refuse("num_attention_heads", $"without head_dim the hidden size {Hidden} must be a multiple of it");
        }

        if (HeadDim % 2 != 0)
        {
            json.Refuse("head_dim", $"rotary positions need an even width of a head, not {HeadDim}");
        }
    }

    private static int[] ReadWindows(string modelType, JsonConfig json, int layers)
    {
        // Other models have no such layers, whatever their configs say.
        bool on = modelType is "mistral" || (modelType is "qwen2" or "qwen3" && json.GetBool("use_sliding_window", false));
        int window = on ? json.GetInt("sliding_window", json.IsNull("sliding_window") ? 0 : LlamaDefaults.Window, 0) : 0;
        if (window == 0)
        {
            return new int[layers];
        }

        IReadOnlyList<string> types = json.GetStrings("layer_types");
        if (types.Count > 0)
        {
            return types.Count == layers ? [.. types.Select(type => WindowOf(type, window, json))] : RefuseTypes(json, layers);
        }

        // Before layer_types, Qwen2 and Qwen3 gave the number of layers at the bottom that see everything.
        int full = modelType == "mistral" ? 0 : json.GetInt("max_window_layers", 28, 0);
        return [.. Enumerable.Range(0, layers).Select(layer => layer < full ? 0 : window)];
    }

    private static int WindowOf(string type, int window, JsonConfig json)
    {
        if (type is not ("full_attention" or "sliding_attention"))
        {
            json.Refuse("layer_types", $"'{type}' is unknown; supported are full_attention and sliding_attention");
        }

        return type == "sliding_attention" ? window : 0;
    }

    private static int[] RefuseTypes(JsonConfig json, int layers)
    {
        json.Refuse("layer_types", $"it must name the type of each of the {layers} layers");
        return [];
    }
}
