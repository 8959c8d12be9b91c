using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// GPTQ's layout (AutoGPTQ, GPTQModel): codes packed along the input features in 32-bit words, zero points along the output features,
/// scales <c>[groups, out]</c>, the group of each input in <c>g_idx</c>. Version 1 stores zero points less 1; it cannot tell a zero of 0 from
/// one of 2^b in older readers, so weights with zero points of their own are written as version 2, which stores them as they are.
/// </summary>
internal sealed class GptqLayout : IQuantizationLayout
{
    private const string Codes = ".qweight", Zeros = ".qzeros", Scale = ".scales", Groups = ".g_idx";

    public string Name => "gptq";

    public string QuantMethod => "gptq";

    public string Marker => Codes;

    public bool Reads(JsonConfig section) => true;

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { StaticActivations: true } => "it holds no scales of activations",
            { Kind: not WeightKind.Affine } or { Form: not AffineForm.ZeroPoint } or { WholeOffsets: false } or { OutlierThreshold: not null } => "it holds affine weights with whole zero points",
            { Order: not GroupOrder.AlongRow } => "it holds groups along rows",
            { Bits: not (2 or 3 or 4 or 8) } => "it holds 2, 3, 4 and 8 bits",
            { ScaleDType: DType.F32 } => "it holds scales in 16 bits",
            _ when facts.In * facts.Bits % 32 != 0 || facts.Out * facts.Bits % 32 != 0 => $"rows and columns must fill 32-bit words, and {facts.Out} × {facts.In} codes of {facts.Bits} bits do not",
            _ => string.Empty,
        };
        return why.Length == 0;
    }

    public bool CanHoldTogether(IReadOnlyList<WeightFacts> all, out string why)
    {
        // Version 1 stores zero points less 1, version 2 as they are, and the file is of one version.
        why = all.Select(facts => facts.Symmetric).Distinct().Count() > 1 ? "it holds symmetric weights or asymmetric ones, not both in one model" : string.Empty;
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source) =>
    [
        new(Codes, DType.I32, facts.In * facts.Bits / 32, facts.Out),
        new(Zeros, DType.I32, facts.GroupsPerRow, facts.Out * facts.Bits / 32),
        new(Scale, facts.ScaleDType, facts.GroupsPerRow, facts.Out),
        new(Groups, DType.I32, facts.In),
    ];

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        AffineWeight affine = (AffineWeight)weight;
        WeightFacts facts = weight.Facts;
        int less = affine.Symmetric ? 1 : 0;
        using Tensor columns = Transpose.Of(weight.Codes);
        yield return new(Codes, WordColumns.Pack(columns, facts.Bits));
        yield return new(Zeros, PackZeros(affine, less));
        yield return new(Scale, GroupRows.Scales(affine));
        int[] groups = affine.ColumnGroups ?? [.. Enumerable.Range(0, (int)facts.In).Select(i => i / facts.GroupSize)];
        yield return new(Groups, Tensor.From<int>(new Shape(groups.Length), DType.I32, groups));
    }

    public JsonObject Section(LayoutModules modules)
    {
        WeightFacts main = modules.Quantized.GroupBy(module => (module.Facts.Bits, module.Facts.GroupSize)).MaxBy(group => group.Count())!.First().Facts;
        bool symmetric = modules.Quantized.All(module => module.Facts.Symmetric);
        JsonObject section = new()
        {
            ["quant_method"] = QuantMethod,
            ["bits"] = main.Bits,
            ["group_size"] = main.WholeRows ? -1 : main.GroupSize,
            ["desc_act"] = modules.Quantized.Any(module => module.Facts.ActOrder),
            ["sym"] = symmetric,
            ["lm_head"] = modules.Quantized.Any(module => module.Module.EndsWith("lm_head", StringComparison.Ordinal)),
            ["checkpoint_format"] = symmetric ? "gptq" : "gptq_v2",
            ["pack_dtype"] = "int32",
        };
        nint GroupOf(WeightFacts facts) => main.WholeRows ? facts.In : nint.Min(main.GroupSize, facts.In);
        var others = modules.Quantized.Where(module => module.Facts.Bits != main.Bits || module.Facts.GroupSize != GroupOf(module.Facts)).ToArray();
        if (others.Length > 0)
        {
            section["dynamic"] = new JsonObject(others.Select(module => KeyValuePair.Create<string, JsonNode?>(
                "+:^" + System.Text.RegularExpressions.Regex.Escape(module.Module) + "$", new JsonObject { ["bits"] = module.Facts.Bits, ["group_size"] = module.Facts.GroupSize })));
        }

        return section;
    }

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        long bits = reader.Rows(Codes) * 32 / Math.Max(1, (long)inFeatures);
        if (bits is not (2 or 3 or 4 or 8))
        {
            reader.Refuse(Codes, $"shape {reader.Entry(Codes).ShapeText} means {bits} bits for {inFeatures} inputs; 2, 3, 4 and 8 are read");
        }

        WeightFacts facts = new(WeightKind.Affine, outFeatures, inFeatures, (int)bits, reader.FloatType(Scale))
        {
            GroupSize = GroupRows.SizeOf(reader, Scale, inFeatures),
            Symmetric = reader.Section.GetBool("sym", false),
            WholeOffsets = true,
        };
        // Where modules differ, patterns tell how; the tensors are exact.
        if (!reader.Section.Has("dynamic"))
        {
            GroupRows.RequireSection(reader, facts);
        }

        return facts with { ActOrder = ReadGroups(reader, facts) is not null };
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        using Tensor packed = reader.Load(Codes);
        using Tensor columns = WordColumns.Unpack(packed, facts.In, facts.Bits);
        float[] offsets = UnpackZeros(reader, facts, StoredLess(reader.Section));
        if (facts.Symmetric && offsets.Any(offset => offset != 1 << (facts.Bits - 1)))
        {
            reader.Refuse(Zeros, "quantization_config says sym, but zero points are not the middle code");
        }

        return new AffineWeight(
            Transpose.Of(columns), facts.Bits, facts.GroupSize, GroupRows.ReadScales(reader, Scale, facts), offsets, facts.ScaleDType, columnGroups: ReadGroups(reader, facts), symmetric: facts.Symmetric);
    }

    /// <summary>1 for version 1, whose zero points are stored less 1; 0 for version 2.</summary>
    private static int StoredLess(JsonConfig section)
    {
        string format = section.GetString("checkpoint_format|format", "gptq");
        if (format is not ("gptq" or "gptq_v2"))
        {
            section.Refuse("checkpoint_format|format", "of GPTQ's formats gptq and gptq_v2 are read", "convert the model, or use its dense form");
        }

        return format == "gptq" ? 1 : 0;
    }

    /// <summary>The groups of columns, or null if they are in order.</summary>
    private static int[]? ReadGroups(LayoutReader reader, WeightFacts facts)
    {
        if (!reader.Has(Groups))
        {
            return null;
        }

        using Tensor stored = reader.Load(Groups);
        if (stored.DType != DType.I32 || stored.Shape != new Shape(facts.In))
        {
            reader.Refuse(Groups, $"expected I32 [{facts.In}], found {stored.DType} {stored.Shape}");
        }

        int[] groups = stored.HostSpan<int>().ToArray();
        if (groups.Any(group => group < 0 || group >= facts.GroupsPerRow))
        {
            reader.Refuse(Groups, $"groups must be 0 to {facts.GroupsPerRow - 1}");
        }

        return groups.Select((group, i) => group == i / facts.GroupSize).All(same => same) ? null : groups;
    }

    private static Tensor PackZeros(AffineWeight weight, int less)
    {
        byte mask = (byte)((1 << weight.Bits) - 1);
        using Tensor zeros = GroupRows.Zeros(weight);
        foreach (ref byte zero in zeros.HostSpan<byte>())
        {
            zero = (byte)((zero - less) & mask);
        }

        return LayoutTensors.PackMatrix(zeros, weight.Bits);
    }

    private static float[] UnpackZeros(LayoutReader reader, WeightFacts facts, int less)
    {
        using Tensor packed = reader.Load(Zeros);
        int mask = (1 << facts.Bits) - 1;
        using Tensor zeros = LayoutTensors.UnpackMatrix(packed, facts.Bits, facts.Out);
        return GroupRows.Turn(zeros, facts, zero => (zero + less) & mask);
    }
}
