using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Models;

/// <summary>The two families of blocks whose sizes are known from the configuration alone.</summary>
public enum ModelFamily
{
    /// <summary>LayerNorm, fused <c>c_attn</c>, two MLP matrices, learned positions.</summary>
    Gpt2,

    /// <summary>RMSNorm, separate q, k, v, gated MLP, rotary positions.</summary>
    Llama,
}

/// <summary>Sizes of a model as its configuration states them; enough to count every parameter without any weights.</summary>
public sealed record ModelDimensions
{
    private const long MostParameters = 1_000_000_000_000_000;

    /// <summary>Values of <c>model_type</c> whose parameters can be counted.</summary>
    public static IReadOnlyList<string> ModelTypes { get; } = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "bitllama", "bitnet"];

    /// <summary>The config's <c>model_type</c>.</summary>
    public required string ModelType { get; init; }

    /// <summary>Form of the blocks.</summary>
    public required ModelFamily Family { get; init; }

    /// <summary>Entries of the token embedding.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>Longest sequence that the model was made for.</summary>
    public required int Context { get; init; }

    /// <summary>Width of the hidden states.</summary>
    public required int Hidden { get; init; }

    /// <summary>Width inside the MLP.</summary>
    public required int Intermediate { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int Layers { get; init; }

    /// <summary>Query heads.</summary>
    public required int Heads { get; init; }

    /// <summary>Key and value heads.</summary>
    public required int KvHeads { get; init; }

    /// <summary>Width of a head.</summary>
    public required int HeadDim { get; init; }

    /// <summary>The output head is the token embedding.</summary>
    public bool Tied { get; init; }

    /// <summary>The output head has a bias.</summary>
    public bool HeadBias { get; init; }

    /// <summary>Query, key and value matrices have biases.</summary>
    public bool QkvBias { get; init; }

    /// <summary>The output matrix of attention has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>The MLP's matrices have biases.</summary>
    public bool MlpBias { get; init; }

    /// <summary>Queries and keys are normalized per head (Qwen3).</summary>
    public bool QkNorm { get; init; }

    /// <summary>Norms stand before the output and down matrices (BitNet 2B).</summary>
    public bool SubNorms { get; init; }

    /// <summary>Labels of a sequence-classification head; 0 for a language model.</summary>
    public int Labels { get; init; }

    /// <summary>Tokens that a local layer attends to; 0 without such layers.</summary>
    public int SlidingWindow { get; init; }

    /// <summary>Width of all query heads together.</summary>
    public long QueryWidth => (long)Heads * HeadDim;

    /// <summary>Width of all key heads together, and of all value heads.</summary>
    public long KvWidth => (long)KvHeads * HeadDim;

    /// <summary>For example <c>grouped-query attention, 32 query heads on 8 key/value heads of 128</c>.</summary>
    public string Attention
    {
        get
        {
            string kind = KvHeads == Heads ? "multi-head" : KvHeads == 1 ? "multi-query" : "grouped-query";
            string heads = KvHeads == Heads ? $"{Heads} heads" : $"{Heads} query heads on {KvHeads} key/value heads";
            return $"{kind} attention, {heads} of {HeadDim}" + (SlidingWindow > 0 ? $", sliding window {SlidingWindow:N0}" : string.Empty);
        }
    }

    /// <summary>Reads a configuration; null if its <c>model_type</c> is of no known family.</summary>
    public static ModelDimensions? TryRead(ModelConfig config, Limits? limits = null)
    {
        DimensionsReader reader = new(config, limits ?? Limits.Default);
        ModelDimensions? dimensions = config.ModelType switch
        {
            "gpt2" => reader.Gpt2(),
            "llama" or "mistral" or "qwen2" or "qwen3" or "bitllama" or "bitnet" => reader.Llama(),
            _ => null,
        };
        if (dimensions != null && ParameterCount.Block(dimensions) * dimensions.Layers > MostParameters)
        {
            config.Text.Refuse("num_hidden_layers|n_layer", $"with these widths the model would have more than {MostParameters:N0} parameters", "correct the sizes in the file");
        }

        return dimensions;
    }

    /// <summary>Reads a configuration; an unknown <c>model_type</c> is refused with the known ones.</summary>
    public static ModelDimensions Read(ModelConfig config, Limits? limits = null)
    {
        ModelDimensions? dimensions = TryRead(config, limits);
        if (dimensions == null)
        {
            config.Text.Refuse("model_type", $"its parameters cannot be counted from the config; known are {string.Join(", ", ModelTypes)}");
        }

        return dimensions;
    }

    /// <summary>The matrices of one block: module name inside the block, sizes, bias.</summary>
    public IReadOnlyList<LinearSpec> BlockLinears() => Family == ModelFamily.Gpt2
        ?
        [
            new("attn.c_attn", 3 * Hidden, Hidden, LinearRole.Block, StoredTransposed: true, HasBias: true),
            new("attn.c_proj", Hidden, Hidden, LinearRole.Block, StoredTransposed: true, HasBias: true),
            new("mlp.c_fc", Intermediate, Hidden, LinearRole.Block, StoredTransposed: true, HasBias: true),
            new("mlp.c_proj", Hidden, Intermediate, LinearRole.Block, StoredTransposed: true, HasBias: true),
        ]
        :
        [
            new("self_attn.q_proj", (nint)QueryWidth, Hidden, LinearRole.Block, HasBias: QkvBias),
            new("self_attn.k_proj", (nint)KvWidth, Hidden, LinearRole.Block, HasBias: QkvBias),
            new("self_attn.v_proj", (nint)KvWidth, Hidden, LinearRole.Block, HasBias: QkvBias),
            new("self_attn.o_proj", Hidden, (nint)QueryWidth, LinearRole.Block, HasBias: OutputBias),
            new("mlp.gate_proj", Intermediate, Hidden, LinearRole.Block, HasBias: MlpBias),
            new("mlp.up_proj", Intermediate, Hidden, LinearRole.Block, HasBias: MlpBias),
            new("mlp.down_proj", Hidden, Intermediate, LinearRole.Block, HasBias: MlpBias),
        ];
}
