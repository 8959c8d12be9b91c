using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The tensors of one element type.</summary>
/// <param name="Dtype">Element type as the file names it.</param>
/// <param name="Tensors">Number of tensors.</param>
/// <param name="Elements">Number of elements.</param>
/// <param name="Bytes">Number of bytes.</param>
public sealed record DTypeShare(string Dtype, int Tensors, long Elements, long Bytes);

/// <summary>What a folder or a file holds, on one screen; made from headers and configs alone, no weight is read.</summary>
public sealed record ModelCard
{
    /// <summary>The path as it was given.</summary>
    public required string Path { get; init; }

    /// <summary>model, config (no weights), adapter, or file (weights without a config).</summary>
    public required string Kind { get; init; }

    /// <summary>The config's <c>model_type</c>.</summary>
    public string? ModelType { get; init; }

    /// <summary>The class that transformers would build.</summary>
    public string? Architecture { get; init; }

    /// <summary>Sizes, for families that Nibble knows.</summary>
    public ModelFacts? Sizes { get; init; }

    /// <summary>Parameters by part, counted from the sizes.</summary>
    public ParameterCount? ParameterParts { get; init; }

    /// <summary>Parameters of the model; of an unknown family, the elements of its dense tensors.</summary>
    public long? Parameters { get; init; }

    /// <summary>All bits of the weight files' tensors per parameter.</summary>
    public double? BitsPerParameter => Parameters > 0 && WeightBytes > 0 ? WeightBytes * 8.0 / Parameters : null;

    /// <summary>Tensors by element type, most bytes first.</summary>
    public IReadOnlyList<DTypeShare> Tensors { get; init; } = [];

    /// <summary>Bytes of all tensors.</summary>
    public long WeightBytes => Tensors.Sum(share => share.Bytes);

    /// <summary>Bytes of the weight files.</summary>
    public long FileBytes { get; init; }

    /// <summary>Number of weight files.</summary>
    public int Files { get; init; }

    /// <summary>Layout of a quantized checkpoint.</summary>
    public string? QuantMethod { get; init; }

    /// <summary>Settings of the quantization, for example <c>bits</c>.</summary>
    public IReadOnlyDictionary<string, string>? Quantization { get; init; }

    /// <summary>Adapter settings of a PEFT folder.</summary>
    public IReadOnlyDictionary<string, string>? Adapter { get; init; }

    /// <summary>Tokenizer files that are there.</summary>
    public IReadOnlyList<string> Tokenizer { get; init; } = [];

    /// <summary>For example <c>multi-head attention, 12 heads of 64</c>.</summary>
    public string? Attention { get; init; }

    /// <summary>Texts in the <c>__metadata__</c> of the first weight file.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }

    /// <summary>Oddities.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Looks at a model folder, an adapter folder, a folder with only a config, or a .safetensors file.</summary>
    public static ModelCard Of(string path, Limits? limits = null) => new ModelCardReader(path, limits ?? Limits.Default).Read();
}
