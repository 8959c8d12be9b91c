using System.Text.Json;
using Nibble.Quantization;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public sealed class BitsAndBytesGoldenTests
{
    private static readonly JsonElement FourBit = GoldenWeights.Read("bitsandbytes/four_bit.json");

    public static TheoryData<int> Cases => [.. Enumerable.Range(0, FourBit.GetProperty("cases").GetArrayLength())];

    [Fact]
    public void Tables_equal_the_originals_bit_for_bit()
    {
        Assert.Equal(GoldenWeights.Floats(FourBit, "nf4"), Codebooks.Nf4);
        Assert.Equal(GoldenWeights.Floats(FourBit, "fp4"), Codebooks.Fp4);
        Assert.Equal(GoldenWeights.Floats(FourBit, "dynamic_map"), DoubleQuantization.Map);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Codes_and_absmax_equal_the_original(int index)
    {
        JsonElement item = FourBit.GetProperty("cases")[index];
        using Tensor input = GoldenWeights.Input(item);
        QuantizationSettings settings = new()
        {
            Method = item.GetProperty("quant_type").GetString()!,
            BlockSize = item.GetProperty("blocksize").GetInt32(),
        };
        using CodebookWeight weight = (CodebookWeight)GoldenWeights.Quantize(input, settings);
        byte[] packed = GoldenWeights.Bytes(item, "packed");
        byte[] expected = [.. packed.SelectMany(two => new[] { (byte)(two >> 4), (byte)(two & 15) }).Take((int)input.Shape.Count)];
        Assert.Equal(expected, weight.Codes.HostSpan<byte>().ToArray());
        Assert.Equal(GoldenWeights.Floats(item, "absmax"), weight.Absmax);
        if (item.TryGetProperty("nested_offset", out JsonElement offset))
        {
            CheckNested(item, offset.GetSingle(), weight.Absmax);
        }
    }

    [Fact]
    public void Int8_codes_and_absmax_equal_the_original()
    {
        foreach (JsonElement item in GoldenWeights.Read("bitsandbytes/int8.json").GetProperty("cases").EnumerateArray())
        {
            using Tensor input = GoldenWeights.Input(item);
            using AffineWeight weight = (AffineWeight)GoldenWeights.Quantize(input, new() { Method = "int8" });
            byte[] signed = [.. weight.Codes.HostSpan<byte>().ToArray().Select(code => (byte)(code - 128))];
            Assert.Equal(GoldenWeights.Bytes(item, "codes"), signed);
            Assert.Equal(GoldenWeights.Floats(item, "scb").Select(LlmInt8Method.ScaleOf), weight.Scales);
        }
    }

    private static void CheckNested(JsonElement item, float offset, float[] absmax)
    {
        byte[] expected = GoldenWeights.Bytes(item, "nested_absmax_codes");
        NestedScales same = DoubleQuantization.Of(absmax, offset);
        Assert.Equal(expected, same.Codes);
        Assert.Equal(GoldenWeights.Floats(item, "nested_absmax"), same.BlockScales);
        NestedScales own = DoubleQuantization.Of(absmax);
        Assert.Equal(offset, own.Offset, 1e-6f);
        Assert.All(own.Codes.Zip(expected), pair => Assert.InRange(pair.First - pair.Second, -1, 1));
    }
}
