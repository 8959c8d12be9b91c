namespace Nibble.Models;

/// <summary>
/// What the absence of a key of config.json means in each model of the LLaMA family: the defaults of transformers'
/// <c>configuration_*.py</c>. Sizes of matrices have defaults there, too (those of one published model): a config without them is refused here,
/// because the weights would not fit.
/// </summary>
/// <param name="Positions"><c>max_position_embeddings</c>.</param>
/// <param name="Epsilon"><c>rms_norm_eps</c>.</param>
/// <param name="Theta"><c>rope_theta</c>.</param>
/// <param name="KvHeads"><c>num_key_value_heads</c>; null: as many as query heads.</param>
/// <param name="HeadDim"><c>head_dim</c>; null: the hidden size divided among the heads.</param>
internal sealed record LlamaDefaults(int Positions, double Epsilon = 1e-6, double Theta = 10_000, int? KvHeads = null, int? HeadDim = null)
{
    /// <summary><c>sliding_window</c> of the models that have one; a null in the file means none.</summary>
    public const int Window = 4096;

    /// <summary>The defaults of a <c>model_type</c>. bitllama2.c has no class in transformers; its configs are LLaMA's.</summary>
    public static LlamaDefaults Of(string modelType) => modelType switch
    {
        "mistral" => new(131_072, KvHeads: 8),
        "qwen2" => new(32_768, KvHeads: 32),
        "qwen3" => new(32_768, KvHeads: 32, HeadDim: 128),
        "bitnet" => new(2048, Epsilon: 1e-5, Theta: 500_000, KvHeads: 5),
        _ => new(2048),
    };
}
