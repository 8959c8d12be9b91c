using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>Which bytes: how a quantized weight stands in a checkpoint, as named tensors and a <c>quantization_config</c> section.</summary>
public interface IQuantizationLayout
{
    /// <summary>Name in messages and on the command line.</summary>
    string Name { get; }

    /// <summary>The <c>quant_method</c> of the section.</summary>
    string QuantMethod { get; }

    /// <summary>The tensor that only a quantized module has: its name after the module's path.</summary>
    string Marker { get; }

    /// <summary>True if this layout reads checkpoints with this section (its <c>quant_method</c> is the right one already).</summary>
    bool Reads(JsonConfig section);

    /// <summary>True if such a weight can be stored and read back exactly; otherwise <paramref name="why"/> tells why not.</summary>
    bool CanHold(WeightFacts facts, out string why);

    /// <summary>True if these weights can stand in one model; asked for weights that the layout can hold one by one.</summary>
    bool CanHoldTogether(IReadOnlyList<WeightFacts> all, out string why)
    {
        why = string.Empty;
        return true;
    }

    /// <summary>The tensors of one weight. Their sizes depend on <paramref name="facts"/> alone.</summary>
    /// <param name="facts">What is stored.</param>
    /// <param name="source">The dtype of the dense checkpoint, which some layouts write down.</param>
    IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source);

    /// <summary>The bytes of the declared tensors, in any order; the caller disposes them.</summary>
    IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source);

    /// <summary>The <c>quantization_config</c> of a model.</summary>
    JsonObject Section(LayoutModules modules);

    /// <summary>Other files that readers of this layout want beside the weights: name and document.</summary>
    IEnumerable<(string Name, JsonObject Document)> Files(LayoutModules modules) => [];

    /// <summary>What a module's tensors and the section say about its weight; no data is read but the smallest tensors.</summary>
    WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures);

    /// <summary>The weight of a module whose tensors have passed <see cref="LayoutReader.Check"/>.</summary>
    QuantizedWeight Decode(LayoutReader reader, WeightFacts facts);
}

/// <summary>One tensor of a quantized module.</summary>
/// <param name="Suffix">Its name after the module's path, with the dot: <c>.weight_packed</c>.</param>
/// <param name="DTypeName">Element type as safetensors names it.</param>
/// <param name="Extents">Shape.</param>
/// <param name="Loose">Other writers may choose another shape or type: a reader checks it itself.</param>
public sealed record StoredTensor(string Suffix, string DTypeName, long[] Extents, bool Loose = false)
{
    /// <summary>Declares a tensor of a type that Nibble holds.</summary>
    public StoredTensor(string suffix, DType dtype, params long[] extents)
        : this(suffix, SafetensorsDType.Name(dtype), extents)
    {
    }

    /// <summary>The tensor as a writer wants it declared.</summary>
    public SafetensorsSpec Of(string module) => new(module + Suffix, DTypeName, Extents);
}

/// <summary>The bytes of one <see cref="StoredTensor"/>.</summary>
/// <param name="Suffix">Its name after the module's path.</param>
/// <param name="Tensor">The bytes; the receiver disposes it.</param>
public readonly record struct EncodedTensor(string Suffix, Tensor Tensor);

/// <summary>Which modules of a model are quantized and how: what a layout writes into the config.</summary>
/// <param name="Quantized">Quantized modules by their stored path, with settings and form.</param>
/// <param name="Kept">Linear modules that stay dense.</param>
/// <param name="Source">The dtype of the dense checkpoint.</param>
/// <param name="OnlyLinear">True if every quantized module is a plain <c>nn.Linear</c> for other readers (false for GPT-2's Conv1D).</param>
public sealed record LayoutModules(
    IReadOnlyList<(string Module, QuantizationSettings Settings, WeightFacts Facts)> Quantized, IReadOnlyList<string> Kept, DType Source, bool OnlyLinear);
