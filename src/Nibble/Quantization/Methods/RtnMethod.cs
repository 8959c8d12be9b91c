using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// Round to nearest: each group of a row gets a scale from its range, and each weight the nearest code. Asymmetric:
/// scale = (max − min) / (2^b − 1) over a range that contains 0, whole zero points. Symmetric: scale = 2·absmax / (2^b − 1), the
/// middle code is 0. This is the baseline of the GPTQ and AWQ papers.
/// </summary>
internal sealed class RtnMethod : QuantizationMethod
{
    public override string Name => "rtn";

    public override string Summary => "round to nearest: affine codes of 2 to 8 bits, a scale (and zero point) for each group of a row";

    public override IReadOnlyList<int> SupportedBits { get; } = [2, 3, 4, 5, 6, 7, 8];

    protected override QuantizationSettings Defaults { get; } =
        new() { Method = "rtn", Bits = 4, GroupSize = 64, Symmetric = false, ScaleDType = DType.F16 };

    protected override void Validate(QuantizationSettings settings) => ValidateGroupSize(settings.GroupSize!.Value);

    /// <summary>The grid of one group. The scale is rounded to its stored dtype before anything else depends on it.</summary>
    public static CodeGrid GridOf(ReadOnlySpan<float> values, int bits, bool symmetric, DType scaleDType)
    {
        float levels = (1 << bits) - 1;
        float middle = 1 << (bits - 1);
        (float min, float max) = VectorSearch.Range(values);
        min = MathF.Min(min, 0);
        max = MathF.Max(max, 0);
        float ideal = symmetric ? MathF.Max(max, -min) / (levels / 2) : (max - min) / levels;
        float scale = ScaleRounding.To(ideal, scaleDType);
        if (scale == 0)
        {
            // All zero, or smaller than the dtype can tell from zero: any scale will do, since every code is the zero point.
            return new CodeGrid(0, 1, symmetric ? middle : 0, symmetric ? middle : 0, symmetric ? middle : 0);
        }

        // + 0 turns −0 into 0, as it reads back from a file.
        float zero = symmetric ? middle : Math.Clamp(MathF.Round(-min / scale), 0, levels) + 0f;
        return new CodeGrid(0, scale, zero, 0, levels);
    }

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        AffineFacts(settings, outFeatures, inFeatures);

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int bits = settings.Bits!.Value, group = RowGroup(settings.GroupSize!.Value, weight.Shape[1]);
        bool symmetric = settings.Symmetric!.Value;
        DType dtype = settings.ScaleDType!.Value;
        return AffineRows.Quantize(weight, bits, group, dtype, AffineForm.ZeroPoint, symmetric, (values, _) => GridOf(values, bits, symmetric, dtype));
    }
}

/// <summary>Rounds a scale to the dtype in which it will be stored.</summary>
internal static class ScaleRounding
{
    public static float To(float scale, DType dtype)
    {
        float rounded = dtype switch
        {
            DType.F16 => (float)(Half)scale,
            DType.BF16 => TensorConvert.BF16ToF32(TensorConvert.F32ToBF16(scale)),
            _ => scale,
        };
        if (!float.IsFinite(rounded))
        {
            Throw.BadInput($"a scale of {scale:G4} does not fit {dtype}", "the weights are unusually large", "choose --scale-dtype f32 or bf16");
        }

        return rounded;
    }
}

/// <summary>Finds the grid of one group of weights, given its values and its number among the groups of the matrix.</summary>
internal delegate CodeGrid FindGrid(ReadOnlySpan<float> values, nint group);

/// <summary>Affine weights with groups along rows: what methods share that choose each group's grid on its own.</summary>
internal static class AffineRows
{
    public static AffineWeight Quantize(Tensor weight, int bits, int group, DType dtype, AffineForm form, bool symmetric, FindGrid find)
    {
        nint rows = weight.Shape[0], columns = weight.Shape[1], perRow = (columns + group - 1) / group;
        Tensor codes = Tensor.OnHost(weight.Shape, DType.U8);
        float[] scales = new float[rows * perRow], offsets = new float[rows * perRow];
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                ReadOnlySpan<float> values = weight.Slice(row, 1).HostSpan<float>();
                Span<byte> target = codes.Slice(row, 1).HostSpan<byte>();
                for (int start = 0, g = 0; start < columns; start += group, g++)
                {
                    int length = (int)nint.Min(group, columns - start);
                    ReadOnlySpan<float> part = values.Slice(start, length);
                    CodeGrid grid = find(part, (row * perRow) + g);
                    VectorSearch.Divide(part, grid, target.Slice(start, length));
                    scales[(row * perRow) + g] = grid.Scale;
                    offsets[(row * perRow) + g] = form == AffineForm.ZeroPoint ? grid.Zero : grid.Origin;
                }
            }
        });
        return new AffineWeight(codes, bits, group, scales, offsets, dtype, form, symmetric: symmetric);
    }
}
