using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// BitNet b1.58 (arXiv 2402.17764, section 2): {−1, 0, +1} times the mean magnitude of the matrix (or of each row). It is made for
/// models that were trained with it; without training it destroys a model.
/// </summary>
internal sealed class TernaryMethod : QuantizationMethod
{
    public override string Name => "ternary";

    public override string Summary => "BitNet b1.58: {-1, 0, 1} times the mean magnitude; without training it destroys a model";

    public override IReadOnlyList<int> SupportedBits { get; } = [2];

    protected override QuantizationSettings Defaults { get; } =
        new() { Method = "ternary", Bits = 2, GroupSize = QuantizationSettings.WholeTensor, ScaleDType = DType.F32 };

    protected override void Validate(QuantizationSettings settings)
    {
        if (settings.GroupSize is not (QuantizationSettings.WholeTensor or QuantizationSettings.WholeRow))
        {
            Refuse("--group-size", settings.GroupSize, "possible are 0 (one scale for the matrix) and -1 (one scale a row)");
        }
    }

    public override string PreferredLayout => "bitnet";

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        new(WeightKind.Ternary, outFeatures, inFeatures, 2, settings.ScaleDType!.Value)
        {
            PerRow = settings.GroupSize == QuantizationSettings.WholeRow && outFeatures > 1,
        };

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics) =>
        TernaryForm.Of(weight, settings.GroupSize == QuantizationSettings.WholeRow, settings.ScaleDType!.Value);
}
