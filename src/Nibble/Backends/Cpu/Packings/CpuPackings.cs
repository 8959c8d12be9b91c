using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>The list of packings of quantized weights: which class holds which kind of weight.</summary>
internal static class CpuPackings
{
    /// <summary>Packs a quantized weight for products with the given activations.</summary>
    public static CpuPacking Create(QuantizedWeight weight, ActivationType activations, CpuVariant variant)
    {
        switch (weight)
        {
            case AffineWeight affine:
                return new AffinePacking(affine, activations, variant);
            case CodebookWeight codebook:
                return new CodebookPacking(codebook, activations, variant);
            case TernaryWeight ternary:
                return new TernaryPacking(ternary, activations, variant);
            default:
                Throw.Argument("prepare", $"no packing of the cpu backend holds a {weight.GetType().Name} with {activations} activations");
                return null;
        }
    }

    /// <summary>Packs an LLM.int8 weight; columns with an activation of magnitude ≥ threshold go the high-precision way.</summary>
    public static CpuPacking CreateInt8(AffineWeight weight, float threshold, CpuVariant variant) => new LlmInt8Packing(weight, threshold, variant);
}
