using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// {−1, 0, +1} times one scale per tensor (BitNet b1.58, arXiv 2402.17764) or per row. Codes are t + 1: 0, 1, 2.
/// </summary>
public sealed class TernaryWeight : QuantizedWeight
{
    /// <summary>Creates a weight; <paramref name="scales"/> holds one value, or one per row.</summary>
    public TernaryWeight(Tensor codes, float[] scales, DType scaleDType = DType.F32)
        : base(codes)
    {
        if (scales.Length != 1 && scales.Length != codes.Shape[0])
        {
            throw new ArgumentException($"ternary weight: {scales.Length} scales for {codes.Shape[0]} rows (1, or one per row)");
        }

        Scales = scales;
        ScaleDType = scaleDType;
    }

    /// <summary>One scale, or one per row; w = (code − 1) · scale.</summary>
    public float[] Scales { get; }

    /// <summary>The dtype in which the scales are stored; their values are already rounded to it.</summary>
    public DType ScaleDType { get; }

    /// <inheritdoc/>
    public override WeightFacts Facts => new(WeightKind.Ternary, Out, In, Bits, ScaleDType) { PerRow = Scales.Length > 1 };

    /// <inheritdoc/>
    public override int Bits => 2;

    /// <summary>The scale of a row.</summary>
    public float ScaleOf(nint row) => Scales.Length == 1 ? Scales[0] : Scales[row];

    /// <inheritdoc/>
    public override void DequantizeRow(nint row, Span<float> destination)
    {
        ReadOnlySpan<byte> codes = CodeRow(row);
        float scale = ScaleOf(row);
        for (int i = 0; i < codes.Length; i++)
        {
            destination[i] = (codes[i] - 1) * scale;
        }

        GC.KeepAlive(this);
    }
}
