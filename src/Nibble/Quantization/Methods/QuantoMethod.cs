using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// The defaults of optimum-quanto. qint8: one absmax scale a row, q = round(w / (absmax/127)). qint4 and qint2: groups of 128 columns
/// (96, 64 or 32 where 128 does not divide the row, a whole row where none does), scale = (max − min)/(2^b − 1) over the group's own
/// range, and the minimum as a real shift: w = q·scale + min.
/// </summary>
internal sealed class QuantoMethod : QuantizationMethod
{
    public override string Name => "quanto";

    public override string Summary => "optimum-quanto's defaults: qint8 a row, qint4 and qint2 with groups of 128 and a real shift";

    public override IReadOnlyList<int> SupportedBits { get; } = [8, 4, 2];

    protected override QuantizationSettings Defaults { get; } = new() { Method = "quanto", Bits = 4, ScaleDType = DType.F32 };

    /// <summary>The group that optimum-quanto takes for rows of this length.</summary>
    public static int GroupOf(int bits, nint columns)
    {
        const int largest = 128, step = 32;
        if (bits == 8 || columns <= largest)
        {
            return (int)nint.Max(1, columns);
        }

        int group = largest;
        while (columns % group != 0 && group > step)
        {
            group -= step;
        }

        return columns % group == 0 ? group : (int)columns;
    }

    protected override bool RoundsActivations => true;

    public override string PreferredLayout => "quanto";

    /// <summary>Scales in the dtype of the model, as optimum-quanto makes them: its layers refuse inputs of another dtype than their scales.</summary>
    public override QuantizationSettings ForModel(QuantizationSettings settings, DType stored) => settings with { ScaleDType = settings.ScaleDType ?? stored };

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        new(WeightKind.Affine, outFeatures, inFeatures, settings.Bits!.Value, settings.ScaleDType!.Value)
        {
            GroupSize = GroupOf(settings.Bits.Value, inFeatures),
            Symmetric = settings.Bits == 8,
            WholeOffsets = settings.Bits == 8,
            Form = settings.Bits == 8 ? AffineForm.ZeroPoint : AffineForm.Bias,
            StaticActivations = settings.ActivationBits is not null,
        };

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int bits = settings.Bits!.Value, group = GroupOf(bits, weight.Shape[1]);
        DType dtype = settings.ScaleDType!.Value;
        return bits == 8
            ? AffineRows.Quantize(weight, bits, group, dtype, AffineForm.ZeroPoint, symmetric: true, (values, _) => Symmetric(values, dtype))
            : AffineRows.Quantize(weight, bits, group, dtype, AffineForm.Bias, symmetric: false, (values, _) => Shifted(values, bits, dtype));
    }

    private static CodeGrid Symmetric(ReadOnlySpan<float> values, DType dtype)
    {
        float scale = ScaleRounding.To(VectorSearch.AbsMax(values) / 127, dtype);
        return scale == 0 ? new CodeGrid(0, 1, 128, 128, 128) : new CodeGrid(0, scale, 128, 0, 255);
    }

    private static CodeGrid Shifted(ReadOnlySpan<float> values, int bits, DType dtype)
    {
        float levels = (1 << bits) - 1;
        (float min, float max) = VectorSearch.Range(values);
        float scale = ScaleRounding.To((max - min) / levels, dtype);
        float shift = ScaleRounding.To(min, dtype);
        // A group of equal weights has no range: its shift is the weight itself.
        return scale == 0 ? new CodeGrid(shift, 1, 0, 0, 0) : new CodeGrid(shift, scale, 0, 0, levels);
    }
}
