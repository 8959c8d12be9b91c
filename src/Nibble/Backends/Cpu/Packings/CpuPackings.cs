using Nibble.Backends.Cpu.PackCache;
using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>The list of packings of quantized weights: which class holds which kind of weight.</summary>
internal static class CpuPackings
{
    private const string Dense = "dense";

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

    /// <summary>Writes a packing with its kind.</summary>
    public static void Save(CpuPacking packing, PackWriter writer)
    {
        writer.Text(packing.GetType() is { IsGenericType: true } ? Dense : packing.GetType().Name);
        packing.Save(writer);
    }

    /// <summary>Reads a packing that was saved on the same kind of processor.</summary>
    public static CpuPacking Open(PackReader reader, CpuVariant variant) => reader.Text() switch
    {
        Dense => variant.OpenDense(reader),
        nameof(AffinePacking) => new AffinePacking(reader, variant),
        nameof(CodebookPacking) => new CodebookPacking(reader, variant),
        nameof(TernaryPacking) => new TernaryPacking(reader, variant),
        nameof(LlmInt8Packing) => new LlmInt8Packing(reader, variant),
        { } kind => throw new InvalidDataException($"no packing is called {kind}"),
    };

    /// <summary>Packs an LLM.int8 weight; columns with an activation of magnitude ≥ threshold go the high-precision way.</summary>
    public static CpuPacking CreateInt8(AffineWeight weight, float threshold, CpuVariant variant, CpuThreads threads) =>
        new LlmInt8Packing(weight, threshold, variant, threads);
}
