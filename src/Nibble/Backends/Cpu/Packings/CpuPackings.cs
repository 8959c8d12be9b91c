using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>The list of packings of quantized weights: which class holds which kind of weight.</summary>
internal static class CpuPackings
{
    /// <summary>Packs a quantized weight for products with the given activations.</summary>
    public static CpuPacking Create(QuantizedWeight weight, ActivationType activations, CpuVariant variant, CpuThreads threads)
    {
        switch (weight)
        {
            case AffineWeight affine:
                return new AffinePacking(affine, activations, variant, threads);
            case CodebookWeight codebook:
                return new CodebookPacking(codebook, activations, variant, threads);
            case TernaryWeight ternary:
                return new TernaryPacking(ternary, activations, variant, threads);
            default:
                Throw.Argument("prepare", $"no packing of the cpu backend holds a {weight.GetType().Name} with {activations} activations");
                return null;
        }
    }

    /// <summary>Packs an LLM.int8 weight; columns with an activation of magnitude ≥ threshold go the high-precision way.</summary>
    public static CpuPacking CreateInt8(AffineWeight weight, float threshold, CpuVariant variant, CpuThreads threads) =>
        new LlmInt8Packing(weight, threshold, variant, threads);
}
