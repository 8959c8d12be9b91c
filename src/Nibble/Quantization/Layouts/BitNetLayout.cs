using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// The packed (<c>offline</c>) form of BitNet b1.58 in transformers: four rows of trits a byte, t + 1 in two bits, and one scale.
/// <c>linear_class</c> says what the scale does: <c>autobitlinear</c> multiplies by it (what is written), <c>bitlinear</c> divides.
/// </summary>
internal sealed class BitNetLayout : IQuantizationLayout
{
    private const string Weight = ".weight", Scale = ".weight_scale";

    public string Name => "bitnet";

    public string QuantMethod => "bitnet";

    public string Marker => Scale;

    public bool Reads(JsonConfig section) => true;

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { Kind: not WeightKind.Ternary } => "it holds ternary weights",
            { PerRow: true } => "it holds one scale for a matrix",
            _ => facts.Out % 4 == 0 ? string.Empty : $"it packs four rows a byte, and {facts.Out} rows are no multiple of 4",
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source) =>
    [
        new(Weight, DType.U8, facts.Out / 4, facts.In),
        new(Scale, SafetensorsDType.Name(facts.ScaleDType), [1], Loose: true),
    ];

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        TernaryWeight ternary = (TernaryWeight)weight;
        yield return new(Weight, LayoutTensors.PackStrided(weight.Codes, weight.Out, 2));
        yield return new(Scale, LayoutTensors.Floats(ternary.Scales, ternary.ScaleDType, 1));
    }

    public JsonObject Section(LayoutModules modules) => new()
    {
        ["quant_method"] = QuantMethod,
        ["linear_class"] = "autobitlinear",
        ["quantization_mode"] = "offline",
        ["use_rms_norm"] = false,
        ["rms_norm_eps"] = 1e-6,
        ["modules_to_not_convert"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
    };

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        if (outFeatures % 4 != 0)
        {
            reader.Refuse(Weight, $"four rows are packed a byte, and {outFeatures} rows are no multiple of 4");
        }

        return new WeightFacts(WeightKind.Ternary, outFeatures, inFeatures, 2, Divides(reader.Section) ? DType.F32 : reader.FloatType(Scale));
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        float scale = reader.Floats(Scale, 1)[0];
        if (Divides(reader.Section))
        {
            if (scale == 0)
            {
                reader.Refuse(Scale, "linear_class bitlinear divides by the scale, and it is 0");
            }

            scale = 1 / scale;
        }

        using Tensor packed = reader.Load(Weight);
        Tensor codes = LayoutTensors.UnpackStrided(packed, facts.Out, 2, new Shape(facts.Out, facts.In));
        for (nint row = 0; row < facts.Out; row++)
        {
            if (LayoutTensors.Row(codes, row).Contains((byte)3))
            {
                codes.Dispose();
                reader.Refuse(Weight, $"row {row} holds the code 3, which stands for no value");
            }
        }

        return new TernaryWeight(codes, [scale], facts.ScaleDType);
    }

    private static bool Divides(JsonConfig section)
    {
        string kind = section.GetString("linear_class", "bitlinear");
        if (kind is not ("bitlinear" or "autobitlinear"))
        {
            section.Refuse("linear_class", "known are bitlinear and autobitlinear");
        }

        return kind == "bitlinear";
    }
}
