using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// compressed-tensors' <c>pack-quantized</c>: codes of 2 to 8 bits along rows as one stream of bits, a scale a group or a row, zero
/// points packed along columns. Codes are signed for its other readers, which add 2^(b−1); ours have that added already.
/// </summary>
internal sealed class CompressedTensorsLayout : IQuantizationLayout
{
    private const string Packed = ".weight_packed", Scale = ".weight_scale", Zero = ".weight_zero_point", ShapeName = ".weight_shape", Groups = ".weight_g_idx";

    // The observer is free text that tells how scales were found; it also tells ternary weights from other 2-bit ones.
    private const string TernaryObserver = "absmean";

    public string Name => "compressed-tensors";

    public string QuantMethod => "compressed-tensors";

    public string Marker => Packed;

    public bool Reads(JsonConfig section) => true;

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { StaticActivations: true } => "it holds no scales of activations",
            { Kind: WeightKind.Codebook } => "it holds affine weights, not codebooks",
            { Kind: WeightKind.Ternary, PerRow: false } => "it holds ternary weights only with a scale a row (--group-size -1)",
            { Kind: WeightKind.Ternary } => string.Empty,
            { WholeCodeWords: true } => "words of whole codes are an older form, which is only read",
            { OutlierThreshold: not null } => "it does not tell LLM.int8's threshold",
            { Bits: < 2 } => "it holds 2 to 8 bits",
            { Order: not GroupOrder.AlongRow } => "it holds groups along rows only",
            { Form: AffineForm.Bias } => "it holds zero points, not real shifts",
            { WholeOffsets: false } => "it holds whole zero points only",
            _ => string.Empty,
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source)
    {
        long groups = facts.Kind == WeightKind.Ternary ? 1 : facts.GroupsPerRow;
        List<StoredTensor> tensors =
        [
            new(Packed, DType.I32, facts.Out, Words(facts, facts.In)),
            new(Scale, facts.ScaleDType, facts.Out, groups),
            new(ShapeName, DType.I64, 2),
        ];
        if (facts is { Kind: WeightKind.Affine, Symmetric: false })
        {
            tensors.Add(new(Zero, DType.I32, Words(facts, facts.Out), groups));
        }

        if (facts.ActOrder)
        {
            tensors.Add(new(Groups, DType.I32, facts.In));
        }

        return tensors;
    }

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        WeightFacts facts = weight.Facts;
        AffineWeight? affine = weight as AffineWeight;
        float[] scales = affine?.Scales ?? ((TernaryWeight)weight).Scales;
        // A ternary code t + 1 is the signed value t, so the stream holds t + 2.
        byte shift = (byte)(affine is null ? 1 : 0);
        yield return new(Packed, LayoutTensors.PackRows(weight, DType.I32, BitStream.Words(weight.In, weight.Bits), (codes, stored) => PackRow(codes, shift, weight.Bits, stored)));
        yield return new(Scale, LayoutTensors.Floats(scales, facts.ScaleDType, weight.Out, scales.Length / nint.Max(1, weight.Out)));
        yield return new(ShapeName, Tensor.From<long>(new Shape(2), DType.I64, [weight.Out, weight.In]));
        if (affine is { Symmetric: false })
        {
            yield return new(Zero, PackZeros(affine));
        }

        if (affine?.ColumnGroups is { } groups)
        {
            yield return new(Groups, Tensor.From<int>(new Shape(groups.Length), DType.I32, groups));
        }
    }

    public JsonObject Section(LayoutModules modules)
    {
        var schemes = modules.Quantized.GroupBy(module => Scheme(module.Facts).ToJsonString()).OrderByDescending(group => group.Count()).ToArray();
        JsonObject groups = [];
        for (int i = 0; i < schemes.Length; i++)
        {
            // One scheme for all nn.Linear is what other readers know best; anything else names its modules.
            bool everything = schemes.Length == 1 && modules.OnlyLinear;
            string[] targets = everything ? ["Linear"] : [.. schemes[i].Select(module => module.Module)];
            groups[$"group_{i}"] = new JsonObject
            {
                ["targets"] = new JsonArray([.. targets.Select(target => (JsonNode)target)]),
                ["weights"] = Scheme(schemes[i].First().Facts),
                ["input_activations"] = null,
                ["output_activations"] = null,
            };
        }

        return new JsonObject
        {
            ["quant_method"] = QuantMethod,
            ["format"] = "pack-quantized",
            ["quantization_status"] = "compressed",
            ["global_compression_ratio"] = null,
            ["kv_cache_scheme"] = null,
            ["config_groups"] = groups,
            ["ignore"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
        };
    }

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        RequireFormat(reader.Section);
        JsonConfig weights = CompressedTensorsTargets.Find(reader.Section, reader.Module);
        int bits = weights.GetInt("num_bits", max: 8);
        if (weights.GetString("type", "int") != "int" || bits < 2)
        {
            weights.Refuse("type", "pack-quantized weights of 2 to 8 bit integers are read");
        }

        bool symmetric = weights.GetBool("symmetric", true);
        if (symmetric && reader.Has(Zero))
        {
            reader.Refuse(Zero, "quantization_config says symmetric, and symmetric weights have no zero points");
        }

        DType dtype = reader.FloatType(Scale);
        if (symmetric && bits == 2 && weights.GetString("observer", null) == TernaryObserver)
        {
            return new WeightFacts(WeightKind.Ternary, outFeatures, inFeatures, 2, dtype) { PerRow = outFeatures > 1 };
        }

        return new WeightFacts(WeightKind.Affine, outFeatures, inFeatures, bits, dtype)
        {
            GroupSize = GroupSize(weights, inFeatures),
            Symmetric = symmetric,
            WholeOffsets = true,
            ActOrder = reader.Has(Groups),
            WholeCodeWords = HasWholeCodeWords(reader, bits, inFeatures),
        };
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        using Tensor shape = reader.Load(ShapeName);
        if (!shape.HostSpan<long>().SequenceEqual([facts.Out, facts.In]))
        {
            reader.Refuse(ShapeName, $"it says [{string.Join(", ", shape.HostSpan<long>().ToArray())}], the architecture [{facts.Out}, {facts.In}]");
        }

        bool ternary = facts.Kind == WeightKind.Ternary;
        nint groups = ternary ? 1 : facts.GroupsPerRow;
        float[] scales = reader.Floats(Scale, facts.Out * groups);
        using Tensor packed = reader.Load(Packed);
        Tensor codes = LayoutTensors.UnpackRows(packed, facts.Out, facts.In, (stored, row) => Unpack(MemoryMarshal.Cast<byte, uint>(stored), facts, row));
        if (ternary)
        {
            return new TernaryWeight(Unshift(codes, reader), scales, facts.ScaleDType);
        }

        float[] offsets = facts.Symmetric ? new float[scales.Length] : UnpackZeros(reader, facts);
        if (facts.Symmetric)
        {
            Array.Fill(offsets, 1 << (facts.Bits - 1));
        }

        return new AffineWeight(codes, facts.Bits, facts.GroupSize, scales, offsets, facts.ScaleDType, columnGroups: ColumnGroups(reader, facts), symmetric: facts.Symmetric);
    }

    private static JsonObject Scheme(WeightFacts facts) => new()
    {
        ["num_bits"] = facts.Bits,
        ["type"] = "int",
        ["symmetric"] = facts.Kind == WeightKind.Ternary || facts.Symmetric,
        ["strategy"] = facts.Kind == WeightKind.Ternary || facts.WholeRows ? "channel" : "group",
        ["group_size"] = facts.Kind == WeightKind.Ternary || facts.WholeRows ? null : facts.GroupSize,
        ["dynamic"] = false,
        ["actorder"] = facts.ActOrder ? "group" : null,
        ["observer"] = facts.Kind == WeightKind.Ternary ? TernaryObserver : "minmax",
    };

    private static void RequireFormat(JsonConfig section)
    {
        if (section.GetString("format", "pack-quantized") is not "pack-quantized")
        {
            section.Refuse("format", "of compressed-tensors' formats only pack-quantized is read", "convert the model, or use its dense form");
        }
    }

    private static int GroupSize(JsonConfig weights, nint inFeatures)
    {
        switch (weights.GetString("strategy", weights.Has("group_size") ? "group" : "channel"))
        {
            case "channel":
                return (int)nint.Max(1, inFeatures);
            case "group":
                return (int)nint.Min(weights.GetInt("group_size"), nint.Max(1, inFeatures));
            default:
                weights.Refuse("strategy", "weights with a scale a group or a row (channel) are read");
                return 0;
        }
    }

    private static void PackRow(ReadOnlySpan<byte> codes, byte shift, int bits, Span<byte> stored)
    {
        if (shift == 0)
        {
            BitStream.Pack(codes, bits, MemoryMarshal.Cast<byte, uint>(stored));
            return;
        }

        byte[] shifted = new byte[codes.Length];
        for (int i = 0; i < shifted.Length; i++)
        {
            shifted[i] = (byte)(codes[i] + shift);
        }

        BitStream.Pack(shifted, bits, MemoryMarshal.Cast<byte, uint>(stored));
    }

    /// <summary>
    /// Until 0.16 a word held as many whole codes as fit (10 of 3 bits), from 0.17 on codes are one stream. Nearly always the number of words tells which;
    /// where it does not, the version that wrote the file does.
    /// </summary>
    private static bool HasWholeCodeWords(LayoutReader reader, int bits, nint columns)
    {
        const int last = 16;
        if (32 % bits == 0 || !reader.Has(Packed) || reader.Entry(Packed).Extents is not [_, long words] || words != BitStream.WholeCodeWords(columns, bits))
        {
            return false;
        }

        string[] version = (reader.Section.GetString("version", null) ?? string.Empty).Split('.');
        return words != BitStream.Words(columns, bits)
            || (version.Length > 1 && version[0] == "0" && int.TryParse(version[1], out int minor) && minor <= last);
    }

    private static nint Words(WeightFacts facts, nint count) => facts.WholeCodeWords ? BitStream.WholeCodeWords(count, facts.Bits) : BitStream.Words(count, facts.Bits);

    private static void Unpack(ReadOnlySpan<uint> words, WeightFacts facts, Span<byte> codes)
    {
        if (facts.WholeCodeWords)
        {
            BitStream.UnpackWholeCodes(words, facts.Bits, codes);
            return;
        }

        BitStream.Unpack(words, facts.Bits, codes);
    }

    private static Tensor Unshift(Tensor codes, LayoutReader reader)
    {
        for (nint row = 0; row < codes.Shape[0]; row++)
        {
            foreach (ref byte code in LayoutTensors.Row(codes, row))
            {
                if (code == 0)
                {
                    codes.Dispose();
                    reader.Refuse(Packed, "it holds the value −2, which no ternary weight has");
                }

                code--;
            }
        }

        return codes;
    }

    /// <summary>Zero points of one group column after another, each a stream over the rows.</summary>
    private static Tensor PackZeros(AffineWeight weight)
    {
        int rows = (int)weight.Out, groups = (int)weight.GroupsPerRow, words = (int)BitStream.Words(rows, weight.Bits);
        Tensor packed = Tensor.OnHost(new Shape(words, groups), DType.I32);
        Span<uint> target = packed.HostSpan<uint>();
        byte[] column = new byte[rows];
        uint[] stream = new uint[words];
        for (int group = 0; group < groups; group++)
        {
            for (int row = 0; row < rows; row++)
            {
                column[row] = (byte)weight.Offsets[(row * groups) + group];
            }

            BitStream.Pack(column, weight.Bits, stream);
            for (int word = 0; word < words; word++)
            {
                target[(word * groups) + group] = stream[word];
            }
        }

        return packed;
    }

    private static float[] UnpackZeros(LayoutReader reader, WeightFacts facts)
    {
        int rows = (int)facts.Out, groups = (int)facts.GroupsPerRow, words = (int)Words(facts, rows);
        using Tensor packed = reader.Load(Zero);
        ReadOnlySpan<uint> source = packed.HostSpan<uint>();
        float[] offsets = new float[rows * groups];
        byte[] column = new byte[rows];
        uint[] stream = new uint[words];
        for (int group = 0; group < groups; group++)
        {
            for (int word = 0; word < words; word++)
            {
                stream[word] = source[(word * groups) + group];
            }

            Unpack(stream, facts, column);
            for (int row = 0; row < rows; row++)
            {
                offsets[(row * groups) + group] = column[row];
            }
        }

        return offsets;
    }

    private static int[]? ColumnGroups(LayoutReader reader, WeightFacts facts)
    {
        if (!facts.ActOrder)
        {
            return null;
        }

        using Tensor stored = reader.Load(Groups);
        int[] groups = stored.HostSpan<int>().ToArray();
        if (groups.Any(group => group < 0 || group >= facts.GroupsPerRow))
        {
            reader.Refuse(Groups, $"groups must be 0 to {facts.GroupsPerRow - 1}");
        }

        return groups;
    }
}
