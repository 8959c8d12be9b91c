using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// AWQ's GEMM layout: codes <c>[in, out]</c> of 4 bits, eight columns to a word in the order 0, 2, 4, 6, 1, 3, 5, 7; zero points the same way
/// and as they are; scales <c>[groups, out]</c>. The method's scaling of activations is folded into other weights and leaves no trace here.
/// </summary>
internal sealed class AwqLayout : IQuantizationLayout
{
    private const string Codes = ".qweight", Zeros = ".qzeros", Scale = ".scales";
    private const int Bits = 4, PerWord = 8;

    private static readonly int[] ColumnOfField = [0, 2, 4, 6, 1, 3, 5, 7];

    public string Name => "awq";

    public string QuantMethod => "awq";

    public string Marker => Codes;

    public bool Reads(JsonConfig section) => true;

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { Kind: not WeightKind.Affine } or { Form: not AffineForm.ZeroPoint } or { WholeOffsets: false } or { OutlierThreshold: not null } => "it holds affine weights with whole zero points",
            { Bits: not Bits } => "it holds 4 bits",
            { Order: not GroupOrder.AlongRow } or { ActOrder: true } => "it holds groups along rows, in order",
            { Symmetric: true } => "it holds zero points (--asymmetric)",
            { ScaleDType: DType.F32 } => "it holds scales in 16 bits",
            _ when facts.In % facts.GroupSize != 0 => $"its groups must divide rows, and {facts.GroupSize} does not divide {facts.In}",
            _ when facts.Out % PerWord != 0 => $"eight outputs are packed a word, and {facts.Out} are no multiple of 8",
            _ => string.Empty,
        };
        return why.Length == 0;
    }

    public bool CanHoldTogether(IReadOnlyList<WeightFacts> all, out string why)
    {
        int most = all.Max(facts => facts.GroupSize);
        why = all.All(facts => facts.GroupSize == nint.Min(most, facts.In)) ? string.Empty : "it holds one group size for all matrices";
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source) =>
    [
        new(Codes, DType.I32, facts.In, facts.Out / PerWord),
        new(Zeros, DType.I32, facts.GroupsPerRow, facts.Out / PerWord),
        new(Scale, facts.ScaleDType, facts.GroupsPerRow, facts.Out),
    ];

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        AffineWeight affine = (AffineWeight)weight;
        using Tensor columns = Transpose.Of(weight.Codes);
        yield return new(Codes, Pack(columns));
        using Tensor zeros = GroupRows.Zeros(affine);
        yield return new(Zeros, Pack(zeros));
        yield return new(Scale, GroupRows.Scales(affine));
    }

    public JsonObject Section(LayoutModules modules) => new()
    {
        ["quant_method"] = QuantMethod,
        ["bits"] = Bits,
        ["group_size"] = modules.Quantized.Select(module => (int?)module.Facts.GroupSize).Max(),
        ["zero_point"] = true,
        ["version"] = "gemm",
        ["modules_to_not_convert"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
    };

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        string version = reader.Section.GetString("version", "gemm");
        if (version.ToLowerInvariant() != "gemm" || reader.Section.GetInt("bits|w_bit", Bits) != Bits)
        {
            reader.Section.Refuse("version", "of AWQ's layouts 4-bit gemm is read", "convert the model, or use its dense form");
        }

        WeightFacts facts = new(WeightKind.Affine, outFeatures, inFeatures, Bits, reader.FloatType(Scale))
        {
            GroupSize = GroupRows.SizeOf(reader, Scale, inFeatures),
            WholeOffsets = true,
        };
        GroupRows.RequireSection(reader, facts);
        return facts;
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        using Tensor packed = reader.Load(Codes), packedZeros = reader.Load(Zeros);
        using Tensor columns = Unpack(packed), zeros = Unpack(packedZeros);
        return new AffineWeight(
            Transpose.Of(columns), Bits, facts.GroupSize, GroupRows.ReadScales(reader, Scale, facts), GroupRows.Turn(zeros, facts, zero => zero), facts.ScaleDType);
    }

    private static Tensor Pack(Tensor codes)
    {
        nint rows = codes.Shape[0], words = codes.Shape[1] / PerWord;
        Tensor packed = Tensor.OnHost(new Shape(rows, words), DType.I32);
        for (nint row = 0; row < rows; row++)
        {
            ReadOnlySpan<byte> source = LayoutTensors.Row(codes, row);
            Span<uint> target = packed.Slice(row, 1).HostSpan<uint>();
            for (int word = 0; word < target.Length; word++)
            {
                for (int field = 0; field < PerWord; field++)
                {
                    target[word] |= (uint)source[(word * PerWord) + ColumnOfField[field]] << (Bits * field);
                }
            }
        }

        return packed;
    }

    private static Tensor Unpack(Tensor packed)
    {
        nint rows = packed.Shape[0];
        Tensor codes = Tensor.OnHost(new Shape(rows, packed.Shape[1] * PerWord), DType.U8);
        for (nint row = 0; row < rows; row++)
        {
            ReadOnlySpan<uint> source = packed.Slice(row, 1).HostSpan<uint>();
            Span<byte> target = LayoutTensors.Row(codes, row);
            for (int word = 0; word < source.Length; word++)
            {
                for (int field = 0; field < PerWord; field++)
                {
                    target[(word * PerWord) + ColumnOfField[field]] = (byte)((source[word] >> (Bits * field)) & 15);
                }
            }
        }

        return codes;
    }
}
