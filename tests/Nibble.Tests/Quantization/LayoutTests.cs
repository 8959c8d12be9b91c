using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Golden bytes and round trips of layouts.</summary>
public sealed class LayoutTests
{
    public static TheoryData<string, string> Pairs
    {
        get
        {
            TheoryData<string, string> pairs = [];
            foreach (QuantizationSettings settings in Methods.DataFree)
            {
                WeightFacts facts = Registry.Method(settings.Method).FactsOf(settings, 32, 160);
                Registry.Layouts.Where(layout => layout.CanHold(facts, out _)).ToList().ForEach(layout => pairs.Add(layout.Name, settings.ToString()));
            }

            return pairs;
        }
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Everything_that_a_layout_can_hold_reads_back_equal(string layout, string settings)
    {
        foreach ((int rows, int columns) in new[] { (32, 160), (4, 208), (64, 33), (64, 1) })
        {
            using Tensor input = Methods.Input(rows, columns, 11);
            using QuantizedWeight weight = Methods.Quantize(input, settings);
            if (Registry.Layout(layout).CanHold(weight.Facts, out _))
            {
                LayoutFolder.RoundTrip(Registry.Layout(layout), weight, back =>
                {
                    Assert.Equal(WeightDigest.Of(weight), WeightDigest.Of(back));
                    Assert.Equal(weight.Facts, back.Facts);
                });
            }
        }
    }

    [Fact]
    public void Every_method_has_a_layout_that_holds_it()
    {
        Assert.All(Methods.DataFree, settings =>
        {
            WeightFacts facts = Registry.Method(settings.Method).FactsOf(settings, 32, 160);
            Assert.Contains(Registry.Layouts, layout => layout.CanHold(facts, out _));
        });
    }

    [Fact]
    public void A_layout_that_cannot_hold_a_weight_says_why()
    {
        Assert.All(Registry.Layouts, layout => Assert.All(Methods.DataFree, settings =>
        {
            bool can = layout.CanHold(Registry.Method(settings.Method).FactsOf(settings, 32, 160), out string why);
            Assert.Equal(can, why.Length == 0);
        }));
    }

    [Fact]
    public void BitsAndBytes_nf4_bytes()
    {
        using Tensor input = Tensor.From<float>(new Shape(1, 8), DType.F32, [-2, -1, 0, .5f, 1, 2, .1f, -.3f]);
        using QuantizedWeight weight = Methods.Quantize(input, "nf4");
        Assert.Equal("027ACF85", LayoutFolder.Hex("bitsandbytes-4bit", weight, ".weight"));
        Assert.Equal(
            "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [1, 8]}",
            LayoutFolder.Text("bitsandbytes-4bit", weight, ".weight.quant_state.bitsandbytes__nf4"));
    }

    [Fact]
    public void BitsAndBytes_double_quantization_state_is_json_with_the_exact_offset()
    {
        using Tensor input = Methods.Input(8, 128, 14);
        QuantizationSettings settings = Registry.Method("nf4").Complete(new() { Method = "nf4", DoubleQuant = true });
        using CodebookWeight weight = (CodebookWeight)Registry.Method("nf4").Quantize("test", input, settings);
        using JsonDocument state = JsonDocument.Parse(LayoutFolder.Text("bitsandbytes-4bit", weight, ".weight.quant_state.bitsandbytes__nf4"));
        Assert.Equal(weight.Nested!.Offset, state.RootElement.GetProperty("nested_offset").GetSingle());
        Assert.Equal((double)weight.Nested.Offset, state.RootElement.GetProperty("nested_offset").GetDouble());
        Assert.Equal(256, state.RootElement.GetProperty("nested_blocksize").GetInt32());
        Assert.Equal("float32", state.RootElement.GetProperty("nested_dtype").GetString());
    }

    [Fact]
    public void BitNet_bytes()
    {
        byte[] codes = [0, 1, 2, 2, 1, 1, 0, 2];
        using TernaryWeight weight = new(LayoutTensors.Bytes(codes).Owned(new Shape(8, 1)), [1]);
        Assert.Equal("1899", LayoutFolder.Hex("bitnet", weight, ".weight"));
    }

    [Theory]
    [InlineData("bitlinear", 0.25f)]
    [InlineData("autobitlinear", 4f)]
    public void BitNet_scale_divides_or_multiplies(string kind, float expected)
    {
        byte[] codes = [0, 1, 2, 2];
        using TernaryWeight weight = new(LayoutTensors.Bytes(codes).Owned(new Shape(4, 1)), [4]);
        LayoutFolder.RoundTrip(Registry.Layout("bitnet"), weight, back => Assert.Equal(expected, ((TernaryWeight)back).Scales[0]), section => section["linear_class"] = kind);
    }

    [Theory]
    [InlineData(4, 8, "10325476")]
    [InlineData(8, 4, "00010203")]
    [InlineData(3, 32, "88C6FA88C6FA88C6FA88C6FA")]
    public void Gptq_bytes(int bits, int inputs, string expected)
    {
        byte[] codes = [.. Enumerable.Range(0, inputs).Select(i => (byte)(i % 8))];
        using AffineWeight weight = new(LayoutTensors.Bytes(codes).Owned(new Shape(1, inputs)), bits, inputs, [1], [0], DType.F16);
        Assert.Equal(expected, LayoutFolder.Hex("gptq", weight, ".qweight"));
    }

    [Fact]
    public void Gptq_symmetric_zero_points_are_stored_less_one()
    {
        float[] ones = [1, 1, 1, 1, 1, 1, 1, 1], eights = [8, 8, 8, 8, 8, 8, 8, 8];
        using AffineWeight weight = new(Tensor.OnHost(new Shape(8, 8), DType.U8), 4, 8, ones, eights, DType.F16, symmetric: true);
        Assert.Equal("77777777", LayoutFolder.Hex("gptq", weight, ".qzeros"));
        using AffineWeight asymmetric = new(Tensor.OnHost(new Shape(8, 8), DType.U8), 4, 8, ones, eights, DType.F16);
        Assert.Equal("88888888", LayoutFolder.Hex("gptq", asymmetric, ".qzeros"));
    }

    [Fact]
    public void Gptq_act_order_and_older_names_read_back()
    {
        using Tensor input = Methods.Input(32, 64, 9);
        using AffineWeight plain = (AffineWeight)Methods.Quantize(input, Registry.Method("rtn").Complete(new() { Method = "rtn", GroupSize = 32 }));
        int[] groups = [.. Enumerable.Range(0, 64).Select(i => i % 2)];
        using AffineWeight weight = new(LayoutTensors.Bytes(plain.Codes.HostSpan<byte>()).Owned(plain.Codes.Shape), 4, 32, plain.Scales, plain.Offsets, DType.F16, columnGroups: groups);
        foreach (string layout in new[] { "gptq", "compressed-tensors" })
        {
            LayoutFolder.RoundTrip(Registry.Layout(layout), weight, back => Assert.Equal(WeightDigest.Of(weight), WeightDigest.Of(back)));
        }
    }

    [Fact]
    public void Awq_bytes()
    {
        byte[] codes = [0, 1, 2, 3, 4, 5, 6, 7];
        using AffineWeight weight = new(LayoutTensors.Bytes(codes).Owned(new Shape(8, 1)), 4, 1, new float[8], new float[8], DType.F16);
        Assert.Equal("20643175", LayoutFolder.Hex("awq", weight, ".qweight"));
    }

    [Theory]
    [InlineData(4, 4, "01020304", "1324")]
    [InlineData(2, 8, "0001020303020100", "2D78")]
    public void Hqq_bytes(int bits, int rows, string codes, string expected)
    {
        using Tensor tensor = LayoutTensors.Bytes(Convert.FromHexString(codes));
        using Tensor packed = HqqPacking.Of(bits).Pack(tensor, rows);
        Assert.Equal(expected, Convert.ToHexString(packed.HostSpan<byte>()));
    }

    [Fact]
    public void Hqq_packing_equals_the_original()
    {
        foreach (JsonElement item in GoldenWeights.Read("hqq/weights.json").GetProperty("cases").EnumerateArray())
        {
            int group = item.GetProperty("group").GetInt32(), axis = item.GetProperty("axis").GetInt32();
            using Tensor codes = LayoutTensors.Bytes(GoldenWeights.Bytes(item, "codes"));
            using Tensor packed = HqqPacking.Of(item.GetProperty("bits").GetInt32()).Pack(codes, axis == 0 ? group : codes.Shape.Count / group);
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "packed")), LayoutFolder.Hex(packed));
        }
    }

    [Fact]
    public void CompressedTensors_bytes()
    {
        using Tensor codes = LayoutTensors.Bytes([0, 1, 7, 8, 9, 10, 14, 15]).Owned(new Shape(1, 8));
        using AffineWeight weight = new(codes, 4, 8, [1], [8], symmetric: true);
        Assert.Equal("1087A9FE", LayoutFolder.Hex("compressed-tensors", weight, ".weight_packed"));
    }

    [Fact]
    public void CompressedTensors_packing_equals_the_original()
    {
        foreach (JsonElement item in GoldenWeights.Read("compressed-tensors/packing.json").GetProperty("cases").EnumerateArray())
        {
            int bits = item.GetProperty("bits").GetInt32();
            Shape shape = GoldenWeights.ShapeOf(item, "shape");
            byte[] codes = [.. GoldenWeights.Bytes(item, "values").Select(value => (byte)((sbyte)value + (1 << (bits - 1))))];
            using AffineWeight weight = new(LayoutTensors.Bytes(codes).Owned(shape), bits, (int)shape[1], new float[shape[0]], new float[shape[0]]);
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "packed")), LayoutFolder.Hex("compressed-tensors", weight, ".weight_packed"));
            // The same values as zero points of one column a group.
            using AffineWeight zeros = new(LayoutTensors.Bytes(new byte[codes.Length]).Owned(shape), bits, 1, new float[codes.Length], [.. codes.Select(code => (float)code)]);
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "zero_packed")), LayoutFolder.Hex("compressed-tensors", zeros, ".weight_zero_point"));
        }
    }

    [Fact]
    public void CompressedTensors_words_of_whole_codes_are_read()
    {
        foreach (JsonElement item in GoldenWeights.Read("compressed-tensors/packing-before-0.17.json").GetProperty("cases").EnumerateArray())
        {
            int bits = item.GetProperty("bits").GetInt32();
            Shape shape = GoldenWeights.ShapeOf(item, "shape"), packed = GoldenWeights.ShapeOf(item, "packed_shape"), zeros = GoldenWeights.ShapeOf(item, "zero_shape");
            byte[] codes = [.. GoldenWeights.Bytes(item, "values").Select(value => (byte)((sbyte)value + (1 << (bits - 1))))];
            using TempFolder folder = new();
            (string, Tensor)[] tensors =
            [
                ("m.weight_packed", Words(item, "packed", packed)), ("m.weight_zero_point", Words(item, "zero_packed", zeros)),
                ("m.weight_scale", Tensor.From<float>(shape, DType.F32, [.. Enumerable.Repeat(1f, codes.Length)])), ("m.weight_shape", Tensor.From<long>(new Shape(2), DType.I64, [shape[0], shape[1]])),
            ];
            Safetensors.Save(folder["model.safetensors"], tensors);
            Array.ForEach(tensors, tensor => tensor.Item2.Dispose());
            File.WriteAllText(folder["config.json"], $$"""
                {"model_type": "llama", "quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "version": "0.12.2",
                 "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": {{bits}}, "symmetric": false, "strategy": "group", "group_size": 1} } } } }
                """);
            using HfFolder model = HfFolder.Open(folder.Path);
            IQuantizationLayout layout = Registry.Layout(model.Config);
            LayoutReader reader = new(model, model.Config.Quantization!, "m");
            WeightFacts facts = layout.Inspect(reader, shape[0], shape[1]);
            reader.Check(layout.Declare(facts, DType.F32));
            using AffineWeight weight = (AffineWeight)layout.Decode(reader, facts);
            // A row of the file: the same numbers are codes and, a column a group, zero points.
            Assert.Equal(codes, weight.Codes.HostSpan<byte>().ToArray());
            Assert.Equal(codes, weight.Offsets.Select(offset => (byte)offset));
            Assert.False(weight.Facts.WholeCodeWords);
            Assert.False(layout.CanHold(facts, out _));
        }

        static Tensor Words(JsonElement item, string name, Shape shape) =>
            Tensor.From<int>(shape, DType.I32, System.Runtime.InteropServices.MemoryMarshal.Cast<byte, int>(GoldenWeights.Bytes(item, name).AsSpan()).ToArray());
    }

    [Fact]
    public void Quanto_bytes_equal_the_original()
    {
        foreach (JsonElement item in GoldenWeights.Read("quanto/weights.json").GetProperty("cases").EnumerateArray())
        {
            int bits = item.GetProperty("bits").GetInt32();
            using Tensor input = GoldenWeights.Input(item);
            using QuantizedWeight weight = GoldenWeights.Quantize(input, new() { Method = "quanto", Bits = bits });
            string data = bits == 8 ? "data" : "packed";
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, data)), LayoutFolder.Hex("quanto", weight, bits == 8 ? ".weight._data" : ".weight._data._data"));
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "scale")), LayoutFolder.Hex("quanto", weight, ".weight._scale"));
            if (bits < 8)
            {
                Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "shift")), LayoutFolder.Hex("quanto", weight, ".weight._shift"));
            }
        }
    }

    [Fact]
    public void LlmInt8_stores_the_absmax_of_rows()
    {
        foreach (JsonElement item in GoldenWeights.Read("bitsandbytes/int8.json").GetProperty("cases").EnumerateArray())
        {
            using Tensor input = GoldenWeights.Input(item);
            using QuantizedWeight weight = GoldenWeights.Quantize(input, new() { Method = "int8" });
            Assert.Equal(Convert.ToHexString(GoldenWeights.Bytes(item, "codes")), LayoutFolder.Hex("bitsandbytes-int8", weight, ".weight"));
            float[] absmax = MemoryMarshal.Cast<byte, float>(Convert.FromHexString(LayoutFolder.Hex("bitsandbytes-int8", weight, ".SCB"))).ToArray();
            Assert.All(absmax.Zip(GoldenWeights.Floats(item, "scb")), pair => Assert.Equal(pair.Second, pair.First, 1e-7f * pair.Second));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(8)]
    public void Bit_streams_read_back(int bits)
    {
        for (int count = 0; count < 70; count++)
        {
            byte[] codes = [.. Enumerable.Range(0, count).Select(i => (byte)((i * 37) & ((1 << bits) - 1)))];
            uint[] words = new uint[BitStream.Words(count, bits)];
            BitStream.Pack(codes, bits, words);
            byte[] back = new byte[count];
            BitStream.Unpack(words, bits, back);
            Assert.Equal(codes, back);
        }
    }

    [Fact]
    public void Tensors_of_another_shape_are_refused_with_both_shapes()
    {
        using Tensor input = Methods.Input(8, 128, 3);
        using QuantizedWeight weight = Methods.Quantize(input, "rtn");
        NibbleException error = Assert.Throws<NibbleException>(() =>
            LayoutFolder.RoundTrip(Registry.Layout("compressed-tensors"), weight, _ => { }, section => section["config_groups"]!["group_0"]!["weights"]!["group_size"] = 32));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("[8, 4]", error.Message, StringComparison.Ordinal);
        Assert.Contains("[8, 2]", error.Message, StringComparison.Ordinal);
    }
}
