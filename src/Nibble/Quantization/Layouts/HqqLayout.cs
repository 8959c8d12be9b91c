using System.Text;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// HQQ's own layout: the matrix seen as <c>[groups, G]</c> (axis 1) or <c>[G, groups]</c> (axis 0), its rows packed in halves, quarters …
/// with the first part in the highest bits, real zeros, and everything else as small tensors. Texts in them are matched against a
/// closed list; the original evaluates them as code.
/// </summary>
internal sealed class HqqLayout : IQuantizationLayout
{
    private const string Codes = ".W_q", Scale = ".scale", Zero = ".zero";

    public string Name => "hqq";

    public string QuantMethod => "hqq";

    public string Marker => Codes;

    public bool Reads(JsonConfig section) => true;

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { Kind: not WeightKind.Affine } or { Form: not AffineForm.ZeroPoint } or { OutlierThreshold: not null } => "it holds affine weights with zero points",
            { Symmetric: true } => "it holds zero points of their own",
            { Bits: 7 } => "it holds 8, 6, 5, 4, 3, 2 and 1 bits",
            { ActOrder: true } => "it holds no act-order",
            _ when facts.Count % Math.Max(1, facts.GroupSize) != 0 || (facts.Order == GroupOrder.AlongRow && facts.In % Math.Max(1, facts.GroupSize) != 0) => "its groups must divide the row or the matrix",
            _ when HqqPacking.Of(facts.Bits) is { Word: 1 } packing && RowsOf(facts) % packing.Parts != 0 => $"{RowsOf(facts)} groups cannot be packed {HqqPacking.Of(facts.Bits).Parts} to a byte",
            _ => string.Empty,
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source)
    {
        HqqPacking packing = HqqPacking.Of(facts.Bits);
        long rows = RowsOf(facts), columns = facts.Count / nint.Max(1, RowsOf(facts)), groups = facts.Count / facts.GroupSize;
        long[] each = facts.Order == GroupOrder.Strided ? [1, groups] : [groups, 1];
        List<StoredTensor> tensors =
        [
            new(Codes, packing.Word == 1 ? "U8" : "I32", [(rows + packing.Parts - 1) / packing.Parts, columns], Loose: true),
            new(Scale, facts.ScaleDType, each),
            new(Zero, facts.ScaleDType, each),
        ];
        tensors.AddRange(Meta(facts).Select(item => new StoredTensor(item.Suffix, SafetensorsDType.Name(item.DType), item.Extents, Loose: true)));
        return tensors;
    }

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        AffineWeight affine = (AffineWeight)weight;
        WeightFacts facts = weight.Facts;
        nint groups = affine.Groups;
        nint[] each = facts.Order == GroupOrder.Strided ? [1, groups] : [groups, 1];
        yield return new(Codes, HqqPacking.Of(facts.Bits).Pack(weight.Codes, RowsOf(facts)));
        yield return new(Scale, LayoutTensors.Floats(affine.Scales, facts.ScaleDType, each));
        yield return new(Zero, LayoutTensors.Floats(affine.Offsets, facts.ScaleDType, each));
        foreach (MetaTensor item in Meta(facts))
        {
            yield return new(item.Suffix, item.ToTensor());
        }
    }

    public JsonObject Section(LayoutModules modules)
    {
        JsonObject[] configs = [.. modules.Quantized.Select(module => Parameters(module.Facts)).DistinctBy(config => config.ToJsonString())];
        JsonObject config = configs.Length == 1 ? configs[0] : [];
        // Several settings are told by tag, the last two parts of the module's path; the tensors themselves are exact.
        foreach (var module in configs.Length == 1 ? [] : modules.Quantized.GroupBy(module => string.Join('.', module.Module.Split('.')[^2..])))
        {
            config[module.Key] = Parameters(module.First().Facts);
        }

        return new JsonObject
        {
            ["quant_method"] = QuantMethod,
            ["quant_config"] = config,
            ["skip_modules"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
        };
    }

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        using Tensor shape = reader.Load(".shape");
        if (shape.DType != DType.I64 || !shape.HostSpan<long>().SequenceEqual([outFeatures, inFeatures]))
        {
            reader.Refuse(".shape", $"the architecture's matrix is [{outFeatures}, {inFeatures}]");
        }

        int bits = Whole(reader, ".nbits", 1, 8), axis = Whole(reader, ".axis", 0, 1);
        int group = Whole(reader, ".group_size", 1, int.MaxValue);
        if (bits == 7 || outFeatures * inFeatures % group != 0)
        {
            reader.Refuse(".group_size", $"{bits} bits with groups of {group} make no HQQ weight of [{outFeatures}, {inFeatures}]");
        }

        JsonConfig? told = reader.Section.Section("quant_config")?.Section("weight_quant_params");
        if (told is not null && told.GetInt("nbits", bits) != bits)
        {
            told.Refuse("nbits", $"the tensors of {reader.Module} have {bits} bits", "download the model again, or correct its config.json");
        }

        using Tensor text = reader.LoadBytes(".packing");
        string name = Encoding.ASCII.GetString(text.HostSpan<byte>());
        if (name != HqqPacking.Of(bits).Name)
        {
            reader.Refuse(".packing", $"{bits} bits are packed as {HqqPacking.Of(bits).Name}, this says '{name}'");
        }

        return new WeightFacts(WeightKind.Affine, outFeatures, inFeatures, bits, reader.FloatType(Scale))
        {
            GroupSize = group,
            Order = HqqMethod.OrderOf(axis, group, inFeatures),
        };
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        HqqPacking packing = HqqPacking.Of(facts.Bits);
        using Tensor packed = reader.LoadBytes(Codes);
        nint rows = RowsOf(facts), columns = facts.Count / nint.Max(1, rows), parts = (rows + packing.Parts - 1) / packing.Parts;
        if (packed.ByteLength != parts * columns * packing.Word)
        {
            reader.Refuse(Codes, $"{packed.ByteLength:N0} bytes, expected {parts * columns * packing.Word:N0} for {facts}");
        }

        int groups = (int)(facts.Count / facts.GroupSize);
        Tensor codes = packing.Unpack(packed, rows, new Shape(facts.Out, facts.In));
        return new AffineWeight(
            codes, facts.Bits, facts.GroupSize, reader.Floats(Scale, groups), reader.Floats(Zero, groups), facts.ScaleDType, AffineForm.ZeroPoint, facts.Order);
    }

    private static nint RowsOf(WeightFacts facts) => facts.Order == GroupOrder.Strided ? facts.GroupSize : facts.Count / facts.GroupSize;

    private static int Axis(WeightFacts facts) => facts.Order == GroupOrder.Strided ? 0 : 1;

    private static int Whole(LayoutReader reader, string suffix, int min, int max)
    {
        using Tensor tensor = reader.Load(suffix);
        long value = tensor.Shape.Count != 1 ? -1 : tensor.DType switch
        {
            DType.I32 => tensor.HostSpan<int>()[0],
            DType.I64 => tensor.HostSpan<long>()[0],
            DType.U8 => tensor.HostSpan<byte>()[0],
            _ => -1,
        };
        if (value < min || value > max)
        {
            reader.Refuse(suffix, $"expected one whole number from {min} to {max}");
        }

        return (int)value;
    }

    private static JsonObject Parameters(WeightFacts facts) => new()
    {
        ["weight_quant_params"] = new JsonObject
        {
            ["nbits"] = facts.Bits,
            ["channel_wise"] = true,
            ["group_size"] = facts.GroupSize,
            ["optimize"] = true,
            ["round_zero"] = facts.Bits == 4,
            ["axis"] = Axis(facts),
            ["view_as_float"] = false,
        },
        ["scale_quant_params"] = null,
        ["zero_quant_params"] = null,
        ["offload_meta"] = false,
    };

    private static IEnumerable<MetaTensor> Meta(WeightFacts facts)
    {
        HqqPacking packing = HqqPacking.Of(facts.Bits);
        string dtype = facts.ScaleDType switch { DType.F16 => "torch.float16", DType.BF16 => "torch.bfloat16", _ => "torch.float32" };
        return
        [
            MetaTensor.Whole(".nbits", facts.Bits), MetaTensor.Whole(".group_size", facts.GroupSize), MetaTensor.Whole(".axis", Axis(facts)),
            new MetaTensor(".shape", DType.I64, [2], [facts.Out, facts.In]),
            MetaTensor.Text(".packing", packing.Name), MetaTensor.Text(".unpack_view_dtype", packing.Word == 1 ? "torch.uint8" : "torch.int32"),
            MetaTensor.Text(".compute_dtype", dtype),
            .. new[] { ".view_as_float", ".quant_scale", ".quant_zero", ".offload_meta" }.Select(name => MetaTensor.Flag(name, false)),
            .. new[] { ".encoded_state_dict", ".stores_quant_config", ".channel_wise", ".optimize" }.Select(name => MetaTensor.Flag(name, true)),
            MetaTensor.Flag(".round_zero", facts.Bits == 4),
        ];
    }

    /// <summary>A small tensor that stands for a number, a flag or a text.</summary>
    private sealed record MetaTensor(string Suffix, DType DType, long[] Extents, long[] Values)
    {
        public static MetaTensor Whole(string suffix, int value) => new(suffix, DType.I32, [], [value]);

        public static MetaTensor Flag(string suffix, bool value) => new(suffix, DType.U8, [], [value ? 1 : 0]);

        public static MetaTensor Text(string suffix, string text) => new(suffix, DType.U8, [text.Length], [.. text.Select(letter => (long)letter)]);

        public Tensor ToTensor()
        {
            Shape shape = new([.. Extents.Select(extent => (nint)extent)]);
            return DType switch
            {
                DType.I32 => Tensor.From<int>(shape, DType, [.. Values.Select(value => (int)value)]),
                DType.I64 => Tensor.From<long>(shape, DType, Values),
                _ => Tensor.From<byte>(shape, DType, [.. Values.Select(value => (byte)value)]),
            };
        }
    }
}
