using Nibble.IO;
using Nibble.Quantization.Hqq;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// HQQ (Badri and Shaji 2023): affine codes with real zero points found by a half-quadratic solver, no calibration. Groups run over
/// the flattened matrix: consecutive elements (axis 1), or with a stride of n/G (axis 0).
/// </summary>
internal sealed class HqqMethod : QuantizationMethod
{
    public override string Name => "hqq";

    public override string Summary => "half-quadratic quantization: real zero points found without data, robust against outliers";

    public override IReadOnlyList<int> SupportedBits { get; } = [8, 6, 5, 4, 3, 2, 1];

    public override string PreferredLayout => "hqq";

    protected override QuantizationSettings Defaults { get; } = new() { Method = "hqq", Bits = 4, GroupSize = 64, Axis = 1, ScaleDType = DType.F16 };

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures)
    {
        int group = GroupOf(settings, outFeatures, inFeatures);
        return new WeightFacts(WeightKind.Affine, outFeatures, inFeatures, settings.Bits!.Value, settings.ScaleDType!.Value)
        {
            GroupSize = group,
            Order = OrderOf(settings.Axis!.Value, group, inFeatures),
        };
    }

    /// <summary>How groups of this axis lie: along rows where rows are whole numbers of groups.</summary>
    public static GroupOrder OrderOf(int axis, int group, nint inFeatures) =>
        axis == 0 ? GroupOrder.Strided : inFeatures % group == 0 ? GroupOrder.AlongRow : GroupOrder.Flat;

    protected override void Validate(QuantizationSettings settings)
    {
        if (settings.Axis is not (0 or 1))
        {
            Refuse("--axis", settings.Axis, "possible are 0 and 1");
        }

        if (settings.GroupSize is not QuantizationSettings.WholeRow and (< 8 or > 1024) || settings.GroupSize > 0 && settings.GroupSize % 8 != 0)
        {
            Refuse("--group-size", settings.GroupSize, "possible are multiples of 8 up to 1024, and -1 for one group a row (axis 1) or a column (axis 0)");
        }
    }

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int bits = settings.Bits!.Value, axis = settings.Axis!.Value, group = GroupOf(settings, weight.Shape[0], weight.Shape[1]);
        nint groups = weight.Shape.Count / group;
        DType dtype = settings.ScaleDType!.Value;
        using Tensor? turned = axis == 0 ? Transpose.Of(weight.Reshape(new Shape(group, groups))) : null;
        Tensor rows = turned ?? weight.Reshape(new Shape(groups, group));
        (float[] inverse, float[] zeros) = HqqSolver.Solve(rows, bits);
        float[] scales = Array.ConvertAll(inverse, value => ScaleRounding.To(1 / value, dtype));
        zeros = Array.ConvertAll(zeros, value => ScaleRounding.To(value, dtype) + 0f);
        Tensor codes = Tensor.OnHost(rows.Shape, DType.U8);
        Spread.Over(groups, group, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                // A real zero point times the scale is the value of code 0.
                CodeGrid grid = new(-(zeros[row] * scales[row]), scales[row], 0, 0, (1 << bits) - 1);
                VectorSearch.Divide(rows.Slice(row, 1).HostSpan<float>(), grid, codes.Slice(row, 1).HostSpan<byte>());
            }
        });
        return new AffineWeight(Place(codes, axis, weight.Shape), bits, group, scales, zeros, dtype, AffineForm.ZeroPoint, OrderOf(axis, group, weight.Shape[1]));
    }

    private static Tensor Place(Tensor codes, int axis, Shape shape)
    {
        if (axis == 1)
        {
            return new Tensor(shape, DType.U8, codes.Storage);
        }

        using (codes)
        {
            return new Tensor(shape, DType.U8, Transpose.Of(codes).Storage);
        }
    }

    /// <summary>Elements of a group of a matrix; a size that does not divide it is refused.</summary>
    public static int GroupOf(QuantizationSettings settings, nint outFeatures, nint inFeatures)
    {
        int group = settings.GroupSize == QuantizationSettings.WholeRow ? (int)(settings.Axis == 0 ? outFeatures : inFeatures) : settings.GroupSize!.Value;
        if (outFeatures * inFeatures % group != 0)
        {
            Throw.Usage(
                $"method hqq cannot use --group-size {group} for a matrix of {outFeatures} × {inFeatures}",
                "its groups must divide the number of elements",
                "choose another group size, or keep this matrix dense with --override 'PATTERN=none'");
        }

        return group;
    }
}
