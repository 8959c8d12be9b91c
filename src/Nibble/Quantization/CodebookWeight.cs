using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// Up to 16 levels times a block's absmax: NF4, FP4, any table. Blocks run over the flattened matrix and may cross rows, as in
/// bitsandbytes: element e belongs to block e / <see cref="BlockSize"/>.
/// </summary>
public sealed class CodebookWeight : QuantizedWeight
{
    /// <summary>Creates a weight: w[e] = levels[codes[e]] · absmax[e / blockSize].</summary>
    public CodebookWeight(Tensor codes, float[] levels, int blockSize, float[] absmax, NestedScales? nested = null)
        : base(codes)
    {
        nint blocks = (codes.Shape.Count + blockSize - 1) / blockSize;
        if (levels.Length is 0 or > 16 || absmax.Length != blocks)
        {
            throw new ArgumentException($"codebook weight: {levels.Length} levels (1 to 16), {absmax.Length} absmax values ({blocks} blocks)");
        }

        Levels = levels;
        BlockSize = blockSize;
        Absmax = absmax;
        Nested = nested;
    }

    /// <summary>The table; code c means <c>Levels[c]</c>.</summary>
    public float[] Levels { get; }

    /// <summary>Elements of a block.</summary>
    public int BlockSize { get; }

    /// <summary>The scale of each block, as the reader of the stored form computes it (with double quantization: after both steps).</summary>
    public float[] Absmax { get; }

    /// <summary>How <see cref="Absmax"/> is stored when it is quantized again; null if it is stored as F32.</summary>
    public NestedScales? Nested { get; }

    /// <inheritdoc/>
    public override WeightFacts Facts => new(WeightKind.Codebook, Out, In, Bits, DType.F32)
    {
        GroupSize = BlockSize,
        Nested = Nested is not null,
        Codebook = Levels.AsSpan().SequenceEqual(Codebooks.Nf4) ? "nf4" : Levels.AsSpan().SequenceEqual(Codebooks.Fp4) ? "fp4" : null,
    };

    /// <inheritdoc/>
    public override int Bits => 4;

    /// <inheritdoc/>
    public override void DequantizeRow(nint row, Span<float> destination)
    {
        ReadOnlySpan<byte> codes = CodeRow(row);
        nint block = row * In / BlockSize;
        int left = (int)(((block + 1) * BlockSize) - (row * In));
        for (int start = 0; start < codes.Length; block++)
        {
            int end = Math.Min(codes.Length, start + left);
            float absmax = Absmax[block];
            for (int i = start; i < end; i++)
            {
                destination[i] = Levels[codes[i]] * absmax;
            }

            start = end;
            left = BlockSize;
        }

        GC.KeepAlive(this);
    }
}

/// <summary>
/// Double quantization (QLoRA, arXiv 2305.14314, section 3): the blocks' absmax values, less their mean, in 8 bits by a table.
/// absmax[b] = Map[Codes[b]] · BlockScales[b / BlockSize] + Offset.
/// </summary>
/// <param name="Codes">One byte per block of the weight.</param>
/// <param name="BlockScales">One F32 per <paramref name="BlockSize"/> codes.</param>
/// <param name="Map">The 256 levels.</param>
/// <param name="Offset">Added to every value.</param>
/// <param name="BlockSize">Codes that share a scale (256 in bitsandbytes).</param>
public sealed record NestedScales(byte[] Codes, float[] BlockScales, float[] Map, float Offset, int BlockSize)
{
    /// <summary>Codes that share a scale in every file that is known, and levels of the map.</summary>
    internal const int UsualBlock = 256;

    /// <summary>The absmax values that a reader computes from the stored form.</summary>
    public float[] Dequantize()
    {
        float[] values = new float[Codes.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (Map[Codes[i]] * BlockScales[i / BlockSize]) + Offset;
        }

        return values;
    }
}
