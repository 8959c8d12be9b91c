using System.Text.Json;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public sealed class QuantoGoldenTests
{
    private static readonly JsonElement Cases = GoldenWeights.Read("quanto/weights.json").GetProperty("cases");

    [Fact]
    public void Codes_scales_and_shifts_equal_the_original()
    {
        foreach (JsonElement item in Cases.EnumerateArray())
        {
            int bits = item.GetProperty("bits").GetInt32();
            using Tensor input = GoldenWeights.Input(item);
            using AffineWeight weight = (AffineWeight)GoldenWeights.Quantize(input, new() { Method = "quanto", Bits = bits });
            byte[] codes = weight.Codes.HostSpan<byte>().ToArray();
            Assert.Equal(GoldenWeights.Floats(item, "scale"), weight.Scales);
            if (bits == 8)
            {
                Assert.Equal(GoldenWeights.Bytes(item, "data"), codes.Select(code => (byte)(code - 128)).ToArray());
                continue;
            }

            Assert.Equal(GoldenWeights.Bytes(item, "codes"), codes);
            Assert.Equal(GoldenWeights.Floats(item, "shift").Select(shift => -shift), weight.Offsets);
            if (item.GetProperty("dequantized").ValueKind == JsonValueKind.String)
            {
                using Tensor values = weight.Dequantize();
                Assert.Equal(GoldenWeights.Floats(item, "dequantized"), values.HostSpan<float>().ToArray());
            }
        }
    }
}
