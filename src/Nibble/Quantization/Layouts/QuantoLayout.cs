using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// What optimum-quanto saves: qint8 as signed bytes with a scale a row; qint4 and qint2 over the matrix seen as rows of one group,
/// packed in strides, with a scale and a shift a group (w = q·scale − shift); and a map of modules in a file of its own.
/// </summary>
internal sealed class QuantoLayout : IQuantizationLayout
{
    private const string Data = ".weight._data", Packed = ".weight._data._data", Scale = ".weight._scale", Shift = ".weight._shift";
    private const string InputScale = ".input_scale", OutputScale = ".output_scale";

    public string Name => "quanto";

    public string QuantMethod => "quanto";

    public string Marker => Scale;

    public bool Reads(JsonConfig section) => true;

    public bool CanHoldTogether(IReadOnlyList<WeightFacts> all, out string why)
    {
        // The section says it once for the whole model.
        why = all.Select(facts => facts.StaticActivations).Distinct().Count() > 1 ? "it holds 8-bit activations in all layers or in none" : string.Empty;
        return why.Length == 0;
    }

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { Kind: not WeightKind.Affine } or { OutlierThreshold: not null } or { ActOrder: true } or { Order: not GroupOrder.AlongRow } => "it holds quanto's affine weights",
            { Bits: 8, Symmetric: true, WholeRows: true, Form: AffineForm.ZeroPoint } => string.Empty,
            { Bits: 8 } => "it holds 8 bits symmetric with a scale a row",
            { Bits: 4 or 2, Form: AffineForm.Bias } when facts.GroupSize == QuantoMethod.GroupOf(facts.Bits, facts.In) => string.Empty,
            { Bits: 4 or 2 } => $"it holds {facts.Bits} bits with real shifts, and groups of {QuantoMethod.GroupOf(facts.Bits, facts.In)} for rows of {facts.In}",
            _ => "it holds 8, 4 and 2 bits",
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source)
    {
        long groups = facts.Out * facts.GroupsPerRow;
        long each = 8 / facts.Bits;
        StoredTensor data = facts.Bits == 8
            ? new(Data, DType.I8, facts.Out, facts.In)
            : new(Packed, DType.U8, (groups + each - 1) / each, facts.GroupSize);
        List<StoredTensor> tensors = [data, new(Scale, facts.ScaleDType, groups, 1)];
        if (facts.Bits < 8)
        {
            tensors.Add(new(Shift, facts.ScaleDType, groups, 1));
        }

        // Scales of quantized activations; without those they are 1, and their reader wants them there all the same.
        string float32 = SafetensorsDType.Name(DType.F32);
        tensors.Add(new(InputScale, float32, [], Loose: true));
        tensors.Add(new(OutputScale, float32, [], Loose: true));
        return tensors;
    }

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        AffineWeight affine = (AffineWeight)weight;
        nint groups = affine.Groups;
        yield return affine.Bits == 8
            ? new(Data, LayoutTensors.PackRows(weight, DType.I8, weight.In, LayoutTensors.Recentre))
            : new(Packed, LayoutTensors.PackStrided(weight.Codes, groups, affine.Bits));
        yield return new(Scale, LayoutTensors.Floats(affine.Scales, affine.ScaleDType, groups, 1));
        if (affine.Bits < 8)
        {
            yield return new(Shift, LayoutTensors.Floats(Array.ConvertAll(affine.Offsets, offset => -offset), affine.ScaleDType, groups, 1));
        }

        yield return new(InputScale, LayoutTensors.Floats([affine.Activations?.Input ?? 1], DType.F32));
        yield return new(OutputScale, LayoutTensors.Floats([affine.Activations?.Output ?? 1], DType.F32));
    }

    public JsonObject Section(LayoutModules modules) => new()
    {
        ["quant_method"] = QuantMethod,
        ["weights"] = $"int{modules.Quantized.GroupBy(module => module.Facts.Bits).MaxBy(group => group.Count())?.Key ?? 8}",
        [QuantizedWeightSource.ActivationsKey] = modules.Quantized.Any(module => module.Facts.StaticActivations) ? "int8" : null,
        ["modules_to_not_convert"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
    };

    public IEnumerable<(string Name, JsonObject Document)> Files(LayoutModules modules)
    {
        JsonObject map = [];
        foreach ((string module, _, WeightFacts facts) in modules.Quantized)
        {
            map[module] = new JsonObject { ["weights"] = $"qint{facts.Bits}", ["activations"] = facts.StaticActivations ? "qint8" : "none" };
        }

        return [("quanto_qmap.json", map)];
    }

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        int bits = BitsOf(reader, outFeatures, inFeatures);
        return new WeightFacts(WeightKind.Affine, outFeatures, inFeatures, bits, reader.FloatType(Scale))
        {
            GroupSize = QuantoMethod.GroupOf(bits, inFeatures),
            Form = bits == 8 ? AffineForm.ZeroPoint : AffineForm.Bias,
            Symmetric = bits == 8,
            WholeOffsets = bits == 8,
            StaticActivations = RoundsActivations(reader),
        };
    }

    /// <summary>The scales on which a module's activations are rounded; null: they are not.</summary>
    public static StaticActivations? Activations(LayoutReader reader) => RoundsActivations(reader) ? new(Positive(reader, InputScale), Positive(reader, OutputScale)) : null;

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        int groups = (int)(facts.Out * facts.GroupsPerRow);
        float[] scales = reader.Floats(Scale, groups);
        if (facts.Bits == 8)
        {
            using Tensor stored = reader.Load(Data);
            float[] middle = new float[groups];
            Array.Fill(middle, LlmInt8Method.Middle);
            Tensor signed = LayoutTensors.UnpackRows(stored, facts.Out, facts.In, LayoutTensors.Recentre);
            return new AffineWeight(signed, 8, facts.GroupSize, scales, middle, facts.ScaleDType, symmetric: true) { Activations = Activations(reader) };
        }

        float[] offsets = Array.ConvertAll(reader.Floats(Shift, groups), shift => -shift);
        using Tensor packed = reader.Load(Packed);
        Tensor codes = LayoutTensors.UnpackStrided(packed, groups, facts.Bits, new Shape(facts.Out, facts.In));
        return new AffineWeight(codes, facts.Bits, facts.GroupSize, scales, offsets, facts.ScaleDType, AffineForm.Bias) { Activations = Activations(reader) };
    }

    private static bool RoundsActivations(LayoutReader reader)
    {
        string kind = reader.Section.GetString(QuantizedWeightSource.ActivationsKey, "none");
        if (kind is not ("none" or "int8" or "qint8"))
        {
            Throw.BadInput($"{reader.Folder.Path}: activations in '{kind}' cannot be read", "Nibble rounds quanto's activations to int8 only", "quantize the model again with activations=qint8, or without");
        }

        return kind != "none";
    }

    private static float Positive(LayoutReader reader, string suffix)
    {
        float scale = reader.Floats(suffix, 1)[0];
        if (!(scale > 0))
        {
            reader.Refuse(suffix, $"a scale of activations must be positive, and this is {scale}");
        }

        return scale;
    }

    /// <summary>8 bits have a tensor of another name; 4 and 2 bits differ in the number of packed rows, unless there are too few.</summary>
    private static int BitsOf(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        if (reader.Has(Data))
        {
            return 8;
        }

        long rows = reader.Rows(Packed);
        long groups = outFeatures * ((inFeatures + QuantoMethod.GroupOf(4, inFeatures) - 1) / QuantoMethod.GroupOf(4, inFeatures));
        bool four = rows == (groups + 1) / 2, two = rows == (groups + 3) / 4;
        if (four && two)
        {
            return reader.Section.GetString("weights", "int4") == "int2" ? 2 : 4;
        }

        if (!four && !two)
        {
            reader.Refuse(Packed, $"{rows:N0} packed rows fit neither 4 nor 2 bits of {groups:N0} groups");
        }

        return four ? 4 : 2;
    }
}
