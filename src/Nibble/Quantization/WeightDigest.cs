using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Nibble.Quantization.Layouts;

namespace Nibble.Quantization;

/// <summary>A SHA-256 over everything that gives a quantized weight its values; equal digests mean equal codes and scales.</summary>
internal static class WeightDigest
{
    public static string Of(QuantizedWeight weight)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"{weight.Facts.Kind} {weight.Out} {weight.In} {weight.Bits} {weight.Facts.GroupSize}"));
        for (nint row = 0; row < weight.Out; row++)
        {
            hash.AppendData(LayoutTensors.Row(weight.Codes, row));
        }

        foreach (float[] numbers in Numbers(weight))
        {
            hash.AppendData(MemoryMarshal.AsBytes(numbers.AsSpan()));
        }

        if (weight is AffineWeight { ColumnGroups: { } groups })
        {
            hash.AppendData(MemoryMarshal.AsBytes(groups.AsSpan()));
        }

        if (weight is AffineWeight { Activations: { } activations })
        {
            hash.AppendData(MemoryMarshal.AsBytes<float>([activations.Input, activations.Output]));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The digest of a vector of F32.</summary>
    public static string Of(ReadOnlySpan<float> values) => Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(values)));

    private static IEnumerable<float[]> Numbers(QuantizedWeight weight) => weight switch
    {
        AffineWeight affine => [affine.Scales, affine.Offsets],
        CodebookWeight codebook => [codebook.Levels, codebook.Absmax],
        TernaryWeight ternary => [ternary.Scales],
        _ => throw new ArgumentException($"no digest of a {weight.GetType().Name}"),
    };
}
