using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// AWQ (Lin et al., arXiv 2306.00978): weights that meet large activations are scaled up before they are rounded, and the factors
/// are moved into the norm or layer before (<see cref="InputScaling"/>); then each group's range is clipped where that lowers the
/// error of the layer's output, and the weights are rounded to the nearest code.
/// </summary>
internal sealed class AwqMethod : QuantizationMethod
{
    public override string Name => "awq";

    public override string Summary => "scales weights by their activations before rounding, then clips ranges; needs calibration";

    public override IReadOnlyList<int> SupportedBits { get; } = [2, 3, 4, 8];

    public override bool NeedsCalibration => true;

    public override bool ScalesInputs => true;

    public override string PreferredLayout => "awq";

    protected override QuantizationSettings Defaults { get; } =
        new() { Method = "awq", Bits = 4, GroupSize = 128, Symmetric = false, ScaleDType = DType.F16 };

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        AffineFacts(settings, outFeatures, inFeatures);

    protected override void Validate(QuantizationSettings settings) => ValidateGroupSize(settings.GroupSize!.Value);

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        GramStatistics gram = RequireGram(statistics, weight.Shape[1]);
        WeightFacts facts = FactsOf(settings, weight.Shape[0], weight.Shape[1]);
        CodeGrid[] grids = GroupClipping.Find(weight, facts, gram);
        return AffineRows.Quantize(weight, facts.Bits, facts.GroupSize, facts.ScaleDType, AffineForm.ZeroPoint, facts.Symmetric, (_, group) => grids[group]);
    }
}
