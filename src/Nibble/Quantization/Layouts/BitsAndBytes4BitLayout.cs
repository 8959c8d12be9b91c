using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>
/// bitsandbytes' 4-bit layout: two codes a byte over the flattened matrix (the first one high), absmax a block in F32 or, with double
/// quantization, in 8 bits; the rest as a JSON text in a U8 tensor.
/// </summary>
internal sealed class BitsAndBytes4BitLayout : IQuantizationLayout
{
    private const string Weight = ".weight", Absmax = ".weight.absmax", Map = ".weight.quant_map";
    private const string NestedAbsmax = ".weight.nested_absmax", NestedMap = ".weight.nested_quant_map", State = ".weight.quant_state.bitsandbytes__";
    private const int NestedBlock = NestedScales.UsualBlock;

    public string Name => "bitsandbytes-4bit";

    public string QuantMethod => "bitsandbytes";

    public string Marker => Absmax;

    public bool Reads(JsonConfig section) => section.GetBool("load_in_4bit|_load_in_4bit", false);

    public bool CanHold(WeightFacts facts, out string why)
    {
        why = facts switch
        {
            { Kind: not WeightKind.Codebook } => "it holds NF4 and FP4 codebooks",
            { Codebook: null } => "it holds no other table than NF4 and FP4",
            _ => string.Empty,
        };
        return why.Length == 0;
    }

    public IReadOnlyList<StoredTensor> Declare(WeightFacts facts, DType source)
    {
        long blocks = (facts.Count + facts.GroupSize - 1) / facts.GroupSize;
        List<StoredTensor> tensors =
        [
            new(Weight, "U8", [(facts.Count + 1) / 2, 1], Loose: true),
            new(Absmax, facts.Nested ? DType.U8 : DType.F32, blocks),
            new(Map, DType.F32, 16),
            new(State + facts.Codebook, "U8", [StateText(facts, source, 0).Length], Loose: true),
        ];
        if (facts.Nested)
        {
            tensors.Add(new(NestedAbsmax, DType.F32, (blocks + NestedBlock - 1) / NestedBlock));
            tensors.Add(new(NestedMap, DType.F32, 256));
        }

        return tensors;
    }

    public IEnumerable<EncodedTensor> Encode(QuantizedWeight weight, DType source)
    {
        CodebookWeight book = (CodebookWeight)weight;
        NestedScales? nested = book.Nested;
        yield return new(Weight, Pack(book));
        yield return new(Absmax, nested is null ? LayoutTensors.Floats(book.Absmax, DType.F32, book.Absmax.Length) : LayoutTensors.Bytes(nested.Codes));
        yield return new(Map, LayoutTensors.Floats(book.Levels, DType.F32, book.Levels.Length));
        yield return new(State + book.Facts.Codebook, LayoutTensors.Bytes(Encoding.UTF8.GetBytes(StateText(book.Facts, source, nested?.Offset ?? 0))));
        if (nested is not null)
        {
            yield return new(NestedAbsmax, LayoutTensors.Floats(nested.BlockScales, DType.F32, nested.BlockScales.Length));
            yield return new(NestedMap, LayoutTensors.Floats(nested.Map, DType.F32, nested.Map.Length));
        }
    }

    public JsonObject Section(LayoutModules modules) => new()
    {
        ["quant_method"] = QuantMethod,
        ["load_in_4bit"] = true,
        ["load_in_8bit"] = false,
        ["_load_in_4bit"] = true,
        ["_load_in_8bit"] = false,
        ["bnb_4bit_quant_type"] = modules.Quantized.GroupBy(module => module.Facts.Codebook).MaxBy(group => group.Count())?.Key,
        ["bnb_4bit_use_double_quant"] = modules.Quantized.Any(module => module.Facts.Nested),
        ["bnb_4bit_compute_dtype"] = TorchName(modules.Source),
        ["bnb_4bit_quant_storage"] = "uint8",
        ["llm_int8_enable_fp32_cpu_offload"] = false,
        ["llm_int8_has_fp16_weight"] = false,
        ["llm_int8_skip_modules"] = new JsonArray([.. modules.Kept.Select(module => (JsonNode)module)]),
        ["llm_int8_threshold"] = LayoutTensors.PythonFloat(LlmInt8Method.DefaultThreshold),
    };

    public WeightFacts Inspect(LayoutReader reader, nint outFeatures, nint inFeatures)
    {
        JsonConfig state = ReadState(reader, out string codebook);
        if (reader.Section.GetString("bnb_4bit_quant_type", codebook) != codebook)
        {
            reader.Section.Refuse("bnb_4bit_quant_type", $"the tensors of {reader.Module} are {codebook}", "download the model again, or correct its config.json");
        }

        IReadOnlyList<int> shape = state.GetInts("shape", min: 1);
        if (!shape.SequenceEqual([(int)outFeatures, (int)inFeatures]))
        {
            state.Refuse("shape", $"the architecture's matrix is [{outFeatures}, {inFeatures}]");
        }

        int block = state.GetInt("blocksize", min: 1, max: 1 << 20);
        bool nested = state.Has("nested_blocksize");
        if (nested && state.GetInt("nested_blocksize") != NestedBlock)
        {
            state.Refuse("nested_blocksize", $"only {NestedBlock} is read");
        }

        return new WeightFacts(WeightKind.Codebook, outFeatures, inFeatures, 4, DType.F32) { GroupSize = block, Nested = nested, Codebook = codebook };
    }

    public QuantizedWeight Decode(LayoutReader reader, WeightFacts facts)
    {
        using Tensor packed = reader.LoadBytes(Weight);
        // Another quant_storage may leave a part of its last element empty, and no more.
        nint spare = packed.ByteLength - ((facts.Count + 1) / 2);
        if (spare < 0 || spare >= (reader.Entry(Weight).DType?.Size() ?? 1))
        {
            reader.Refuse(Weight, $"{packed.ByteLength:N0} bytes for {facts.Count:N0} codes of 4 bits");
        }

        int blocks = (int)((facts.Count + facts.GroupSize - 1) / facts.GroupSize);
        float[] levels = reader.Floats(Map, 16);
        NestedScales? nested = facts.Nested ? ReadNested(reader, blocks) : null;
        float[] absmax = nested?.Dequantize() ?? reader.Floats(Absmax, blocks);
        return new CodebookWeight(Unpack(packed, facts), levels, facts.GroupSize, absmax, nested);
    }

    /// <summary>The text that Python's json.dumps gives, with an offset whose length does not depend on its value.</summary>
    private static string StateText(WeightFacts facts, DType source, float offset)
    {
        string text = $"{{\"quant_type\": \"{facts.Codebook}\", \"blocksize\": {facts.GroupSize}, \"dtype\": \"{TorchName(source)}\", \"shape\": [{facts.Out}, {facts.In}]";
        if (facts.Nested)
        {
            text += $", \"nested_blocksize\": {NestedBlock}, \"nested_dtype\": \"float32\", \"nested_offset\": {((double)offset).ToString("e16", CultureInfo.InvariantCulture)}";
        }

        return text + "}";
    }

    private static string TorchName(DType dtype) => dtype switch
    {
        DType.F16 => "float16",
        DType.BF16 => "bfloat16",
        _ => "float32",
    };

    private static JsonConfig ReadState(LayoutReader reader, out string codebook)
    {
        string[] kinds = [.. new[] { "nf4", "fp4" }.Where(kind => reader.Has(State + kind))];
        if (kinds.Length != 1)
        {
            reader.Refuse(State + "…", $"exactly one quant_state of nf4 or fp4 is needed, {kinds.Length} are there");
        }

        codebook = kinds[0];
        using Tensor text = reader.LoadBytes(State + codebook);
        JsonConfig state = JsonConfig.Parse(text.HostSpan<byte>(), $"{reader.Folder.Path}: {reader.Module}{State}{codebook}");
        if (state.GetString("quant_type", codebook) != codebook)
        {
            state.Refuse("quant_type", $"the tensor's name says {codebook}");
        }

        return state;
    }

    private static NestedScales ReadNested(LayoutReader reader, int blocks)
    {
        JsonConfig state = ReadState(reader, out _);
        using Tensor codes = reader.Load(Absmax);
        return new NestedScales(
            codes.HostSpan<byte>().ToArray(),
            reader.Floats(NestedAbsmax, (blocks + NestedBlock - 1) / NestedBlock),
            reader.Floats(NestedMap, 256),
            (float)state.GetDouble("nested_offset"),
            NestedBlock);
    }

    private static unsafe Tensor Pack(CodebookWeight weight)
    {
        nint count = weight.Codes.Shape.Count, bytes = (count + 1) / 2;
        Tensor packed = Tensor.OnHost(new Shape(bytes, 1), DType.U8);
        Spread.Over(bytes, 2, (first, last) =>
        {
            byte* codes = weight.Codes.HostPointer, target = packed.HostPointer;
            for (nint i = first; i < last; i++)
            {
                // The code that fills an odd end is the reference's: that of the value 0.
                int low = (2 * i) + 1 < count ? codes[(2 * i) + 1] : ZeroCode(weight);
                target[i] = (byte)((codes[2 * i] << 4) | low);
            }
        });
        return packed;
    }

    private static int ZeroCode(CodebookWeight weight) => Array.IndexOf(weight.Levels, 0f);

    private static unsafe Tensor Unpack(Tensor packed, WeightFacts facts)
    {
        Tensor codes = Tensor.OnHost(new Shape(facts.Out, facts.In), DType.U8);
        Spread.Over((facts.Count + 1) / 2, 2, (first, last) =>
        {
            byte* source = packed.HostPointer, target = codes.HostPointer;
            for (nint i = first; i < last; i++)
            {
                target[2 * i] = (byte)(source[i] >> 4);
                if ((2 * i) + 1 < facts.Count)
                {
                    target[(2 * i) + 1] = (byte)(source[i] & 15);
                }
            }
        });
        return codes;
    }
}
