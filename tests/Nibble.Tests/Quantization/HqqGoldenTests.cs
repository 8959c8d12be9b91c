using System.Text.Json;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public sealed class HqqGoldenTests
{
    [Fact]
    public void Codes_scales_and_zero_points_are_those_of_the_authors()
    {
        foreach (JsonElement item in GoldenWeights.Read("hqq/weights.json").GetProperty("cases").EnumerateArray())
        {
            QuantizationSettings settings = new()
            {
                Method = "hqq",
                Bits = item.GetProperty("bits").GetInt32(),
                Axis = item.GetProperty("axis").GetInt32(),
                GroupSize = item.GetProperty("group").GetInt32(),
                ScaleDType = DType.F32,
            };
            using Tensor input = GoldenWeights.Input(item);
            using AffineWeight weight = (AffineWeight)GoldenWeights.Quantize(input, settings);
            Assert.All(weight.Scales.Zip(GoldenWeights.Floats(item, "scale")), pair => Assert.Equal(pair.Second, pair.First, 1e-6f * pair.Second));
            Assert.All(weight.Offsets.Zip(GoldenWeights.Floats(item, "zero")), pair => Assert.Equal(pair.Second, pair.First, 2e-3f * (1 + MathF.Abs(pair.Second))));
            byte[] expected = GoldenWeights.Bytes(item, "codes"), codes = weight.Codes.HostSpan<byte>().ToArray();
            int different = expected.Zip(codes).Count(pair => pair.First != pair.Second);
            Assert.InRange(different, 0, expected.Length / 200);
            Assert.Equal(item.GetProperty("mean_error").GetDouble(), MeanError(input, weight), 0.005 * item.GetProperty("mean_error").GetDouble());
        }
    }

    [Fact]
    public void The_solver_beats_round_to_nearest_on_weights_with_outliers()
    {
        using Tensor input = Methods.Input(64, 256, 77);
        Span<float> values = input.HostSpan<float>();
        for (int i = 0; i < values.Length; i += 61)
        {
            values[i] *= 8;
        }

        using QuantizedWeight hqq = GoldenWeights.Quantize(input, new() { Method = "hqq", Bits = 3 });
        using QuantizedWeight rtn = GoldenWeights.Quantize(input, new() { Method = "rtn", Bits = 3 });
        Assert.True(MeanError(input, hqq) < MeanError(input, rtn));
    }

    private static double MeanError(Tensor input, QuantizedWeight weight)
    {
        using Tensor values = weight.Dequantize();
        return input.HostSpan<float>().ToArray().Zip(values.HostSpan<float>().ToArray(), (w, v) => Math.Abs((double)w - v)).Average();
    }
}
