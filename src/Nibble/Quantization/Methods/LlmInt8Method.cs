using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// LLM.int8 (arXiv 2208.07339, section 3): weights in int8 with one absmax a row, c = round(127·w / absmax). What is special is the
/// product, where activation columns that reach the threshold stay in high precision.
/// </summary>
internal sealed class LlmInt8Method : QuantizationMethod
{
    /// <summary>The middle code: codes are stored unsigned.</summary>
    public const int Middle = 128;

    /// <summary>Magnitude from which activation columns stay in high precision (section 3.2).</summary>
    public const float DefaultThreshold = 6;

    public override string Name => "int8";

    public override string Summary => "LLM.int8: int8 with one absmax a row; activation outliers multiply in high precision";

    public override IReadOnlyList<int> SupportedBits { get; } = [8];

    protected override QuantizationSettings Defaults { get; } = new() { Method = "int8", Bits = 8, Threshold = DefaultThreshold };

    protected override void Validate(QuantizationSettings settings)
    {
        if (!(settings.Threshold >= 0) || !float.IsFinite(settings.Threshold!.Value))
        {
            Refuse("--threshold", settings.Threshold, "possible are numbers from 0 on; 0 switches the high-precision columns off");
        }
    }

    /// <summary>0 switches the high-precision columns off, as in bitsandbytes.</summary>
    public static float ThresholdOf(float setting) => setting == 0 ? float.PositiveInfinity : setting;

    /// <summary>absmax / 127 as bitsandbytes' reader computes it from the stored absmax.</summary>
    public static float ScaleOf(float absmax) => absmax / 127f;

    /// <summary>The absmax (bitsandbytes' SCB) that stands for a scale, or null if there is none.</summary>
    public static float? AbsmaxOf(float scale)
    {
        float guess = scale * 127f;
        foreach (float candidate in new[] { guess, MathF.BitDecrement(guess), MathF.BitIncrement(guess) })
        {
            if (ScaleOf(candidate) == scale)
            {
                return candidate;
            }
        }

        return null;
    }

    public override string PreferredLayout => "bitsandbytes-int8";

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        new(WeightKind.Affine, outFeatures, inFeatures, 8, DType.F32)
        {
            GroupSize = RowGroup(QuantizationSettings.WholeRow, inFeatures),
            Symmetric = true,
            WholeOffsets = true,
            OutlierThreshold = ThresholdOf(settings.Threshold!.Value),
        };

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        Tensor codes = Tensor.OnHost(weight.Shape, DType.U8);
        nint rows = weight.Shape[0];
        float[] scales = new float[rows], offsets = new float[rows];
        Array.Fill(offsets, Middle);
        CodeGrid grid = new(0, 1, Middle, 1, 255);
        Spread.Over(rows, weight.Shape[1], (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                ReadOnlySpan<float> values = weight.Slice(row, 1).HostSpan<float>();
                float absmax = VectorSearch.AbsMax(values);
                scales[row] = ScaleOf(absmax);
                // A row of zeros (or of numbers so small that 127 / absmax overflows) has no direction to round in: all zero.
                float factor = 127f / absmax;
                VectorSearch.Multiply(values, float.IsFinite(factor) ? factor : 0, grid, codes.Slice(row, 1).HostSpan<byte>());
            }
        });
        return new AffineWeight(codes, 8, (int)nint.Max(1, weight.Shape[1]), scales, offsets, symmetric: true) { OutlierThreshold = ThresholdOf(settings.Threshold!.Value) };
    }
}
