using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>bitsandbytes' int8 layout: signed codes, the absmax of each row (SCB), and a format number that is always 0.</summary>
internal sealed class BitsAndBytesInt8Layout : IQuantizationLayout
{
    private const string Weight = ".weight", Absmax = ".SCB", Format = ".weight_format";

    public string Name => "bitsandbytes-int8";

    public string QuantMethod => "bitsandbytes";

    public string Marker => Absmax;

    public bool Reads(JsonConfig section) => section.GetBool("load_in_8bit|_load_in_8bit", false);

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { OutlierThreshold: null } => "it holds LLM.int8 weights",
            { Kind: WeightKind.Affine, Bits: 8, WholeRows: true, Symmetric: true, ScaleDType: DType.F32 } => string.Empty,
            _ => "it holds 8 bits with an F32 scale a row, symmetric",
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source) =>
    [
        new(Weight, DType.I8, facts.Out, facts.In),
        new(Absmax, DType.F32, facts.Out),
        new(Format, "U8", [], Loose: true),
    ];

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        AffineWeight affine = (AffineWeight)weight;
        yield return new(Weight, LayoutTensors.PackRows(weight, DType.I8, weight.In, LayoutTensors.Recentre));
        yield return new(Absmax, LayoutTensors.Floats(Array.ConvertAll(affine.Scales, AbsmaxOf), DType.F32, weight.Out));
        yield return new(Format, Tensor.OnHost(default, DType.U8));
    }

    public JsonObject Section(LayoutModules modules)
    {
        float threshold = modules.Quantized.Count == 0 ? 6 : modules.Quantized[0].Facts.OutlierThreshold ?? 6;
        return new()
        {
            ["quant_method"] = QuantMethod,
            ["load_in_4bit"] = false,
            ["load_in_8bit"] = true,
            ["_load_in_4bit"] = false,
            ["_load_in_8bit"] = true,
            ["llm_int8_enable_fp32_cpu_offload"] = false,
            ["llm_int8_has_fp16_weight"] = false,
            ["llm_int8_skip_modules"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
            ["llm_int8_threshold"] = LayoutTensors.PythonFloat(float.IsInfinity(threshold) ? 0 : threshold),
        };
    }

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures) => new(WeightKind.Affine, outFeatures, inFeatures, 8, DType.F32)
    {
        GroupSize = (int)nint.Max(1, inFeatures),
        Symmetric = true,
        WholeOffsets = true,
        OutlierThreshold = LlmInt8Method.ThresholdOf((float)reader.Section.GetDouble("llm_int8_threshold", 6, min: 0, max: float.MaxValue)),
    };

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        if (reader.Has(Format))
        {
            using Tensor format = reader.LoadBytes(Format);
            if (format.ByteLength != 1 || format.HostSpan<byte>()[0] != 0)
            {
                reader.Refuse(Format, "only format 0 (row) is read: older formats depend on the GPU that wrote them");
            }
        }

        using Tensor stored = reader.Load(Weight);
        float[] scales = Array.ConvertAll(reader.Floats(Absmax, facts.Out), LlmInt8Method.ScaleOf);
        float[] offsets = new float[scales.Length];
        Array.Fill(offsets, LlmInt8Method.Middle);
        Tensor codes = LayoutTensors.UnpackRows(stored, facts.Out, facts.In, LayoutTensors.Recentre);
        return new AffineWeight(codes, 8, facts.GroupSize, scales, offsets, symmetric: true) { OutlierThreshold = facts.OutlierThreshold };
    }

    private static float AbsmaxOf(float scale)
    {
        float? absmax = LlmInt8Method.AbsmaxOf(scale);
        if (absmax is null)
        {
            Throw.Failed($"bitsandbytes-int8 cannot hold the scale {scale:R} exactly", "it stores absmax = 127 · scale, and no F32 gives this scale again", "choose another layout");
        }

        return absmax.Value;
    }
}
