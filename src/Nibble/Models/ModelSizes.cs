using Nibble.Formats;

namespace Nibble.Models;

/// <summary>Parameters of a model by what they are for; a tied matrix counts once.</summary>
/// <param name="Embedding">Token embedding.</param>
/// <param name="Blocks">Matrices of all blocks, without biases: what quantization shrinks.</param>
/// <param name="Head">Output or classification head; 0 if tied.</param>
/// <param name="Rest">Norms, biases and learned positions.</param>
public sealed record ParameterCount(long Embedding, long Blocks, long Head, long Rest)
{
    /// <summary>All parameters.</summary>
    public long Total => Embedding + Blocks + Head + Rest;
}

/// <summary>What can be known of a model from its configuration alone: every tensor's shape, so every parameter is counted.</summary>
public sealed class ModelSizes
{
    private const long MostParameters = 1_000_000_000_000_000;

    private ModelSizes(ModelConfig config, IArchitecture architecture)
    {
        Facts = architecture.Facts(config);
        IReadOnlyList<LinearSpec> linears = architecture.Linears(config);
        Blocks = linears.Where(spec => spec.Role == LinearRole.Block).ToArray();
        Parameters = new ParameterCount(
            Sum(linears, LinearRole.Embedding),
            Sum(linears, LinearRole.Block),
            Sum(linears, LinearRole.Head) + Sum(linears, LinearRole.Classifier),
            architecture.Vectors(config).Sum(spec => (long)spec.Shape.Count));
        Window = architecture is LlamaArchitecture ? LlamaConfig.Read(config).Windows.Max() : 0;
        if (Parameters.Total > MostParameters)
        {
            config.Text.Refuse("num_hidden_layers|n_layer", $"with these widths the model would have more than {MostParameters:N0} parameters", "correct the sizes in the file");
        }
    }

    /// <summary>Sizes and names.</summary>
    public ModelFacts Facts { get; }

    /// <summary>The matrices of all blocks.</summary>
    public IReadOnlyList<LinearSpec> Blocks { get; }

    /// <summary>The matrices of one block.</summary>
    public IEnumerable<LinearSpec> OneBlock => Blocks.Take(Blocks.Count / Facts.Layers);

    /// <summary>All parameters.</summary>
    public ParameterCount Parameters { get; }

    /// <summary>Tokens that local layers attend to; 0 without such layers.</summary>
    public int Window { get; }

    /// <summary>For example <c>grouped-query attention, 32 query heads on 8 key/value heads of 128</c>.</summary>
    public string Attention
    {
        get
        {
            (int heads, int kv) = (Facts.Heads, Facts.KvHeads);
            string kind = kv == heads ? "multi-head" : kv == 1 ? "multi-query" : "grouped-query";
            string text = kv == heads ? $"{heads} heads" : $"{heads} query heads on {kv} key/value head{(kv == 1 ? string.Empty : "s")}";
            return $"{kind} attention, {text} of {Facts.HeadDim}" + (Window > 0 ? $", sliding window {Window:N0}" : string.Empty);
        }
    }

    /// <summary>Sizes of the model that a config describes; an unknown <c>model_type</c> is refused.</summary>
    public static ModelSizes Of(ModelConfig config) => new(config, Registry.Architecture(config));

    /// <summary>The same, or null for an unknown <c>model_type</c>.</summary>
    public static ModelSizes? TryOf(ModelConfig config) =>
        Registry.Architectures.FirstOrDefault(family => family.ModelTypes.Contains(config.ModelType)) is { } family ? new(config, family) : null;

    // A sum that a damaged config made absurd stays a number, for the refusal that follows.
    private static long Sum(IReadOnlyList<LinearSpec> linears, LinearRole role)
    {
        Int128 sum = linears.Where(spec => spec.Role == role).Aggregate(Int128.Zero, (total, spec) => total + (Int128)spec.Out * spec.In);
        return (long)Int128.Min(sum, 2 * MostParameters);
    }
}
