using System.Text.Json;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public sealed class HqqGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
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
    public void Errors_are_those_of_the_authors_for_every_width_axis_and_group()
    {
        JsonElement golden = GoldenWeights.Read("hqq/errors.json");
        (int rows, int columns) = (golden.GetProperty("rows").GetInt32(), golden.GetProperty("columns").GetInt32());
        float[] plain = GoldenWeights.Values(rows * columns, golden.GetProperty("seed").GetUInt64());
        float[] outliers = [.. plain.Select((value, i) => i % 61 == 0 ? value * 8 : value)];
        foreach (JsonElement item in golden.GetProperty("cases").EnumerateArray())
        {
            (int bits, int axis, int group) = (item.GetProperty("bits").GetInt32(), item.GetProperty("axis").GetInt32(), item.GetProperty("group").GetInt32());
            string matrix = item.GetProperty("matrix").GetString()!;
            using Tensor input = Tensor.From<float>(new Shape(rows, columns), DType.F32, matrix == "normal" ? plain : outliers);
            using QuantizedWeight weight = GoldenWeights.Quantize(input, new() { Method = "hqq", Bits = bits, Axis = axis, GroupSize = group, ScaleDType = DType.F32 });
            double ratio = MeanError(input, weight) / item.GetProperty("mean_error").GetDouble();
            output.WriteLine($"{matrix} axis {axis} bits {bits} group {group}: {ratio:F5}");
            Assert.True(ratio <= (1.01), $"{matrix}, {bits} bits, axis {axis}, group {group}: {ratio:F4} of the authors' mean error");
        }
    }

    /// <summary>The table of docs/methods.md: width × axis × group × layout, and nothing beyond it.</summary>
    [Theory]
    [InlineData("hqq", new[] { 1, 2, 3, 4, 5, 6, 8 }, new[] { 0, 1 })]
    [InlineData("gptq", new int[0], new int[0])]
    [InlineData("awq", new int[0], new int[0])]
    [InlineData("compressed-tensors", new int[0], new int[0])]
    [InlineData("quanto", new int[0], new int[0])]
    [InlineData("bitsandbytes-4bit", new int[0], new int[0])]
    [InlineData("bitsandbytes-int8", new int[0], new int[0])]
    [InlineData("bitnet", new int[0], new int[0])]
    public void What_a_layout_packs_is_what_is_documented(string name, int[] widths, int[] axes)
    {
        IQuantizationLayout layout = Registry.Layout(name);
        IQuantizationMethod method = Registry.Method("hqq");
        foreach (int bits in method.SupportedBits)
        {
            foreach (int axis in new[] { 0, 1 })
            {
                foreach (int group in new[] { 8, 16, 32, 64, 128, 256, QuantizationSettings.WholeRow })
                {
                    QuantizationSettings settings = method.Complete(new() { Method = "hqq", Bits = bits, Axis = axis, GroupSize = group });
                    bool held = layout.CanHold(method.FactsOf(settings, 64, 512), out string why);
                    Assert.True(held == (widths.Contains(bits) && axes.Contains(axis)), $"{name}: {settings} {why}");
                    Assert.Equal(held, why.Length == 0);
                }
            }
        }
    }

    [Theory]
    [InlineData(7, 1, 64)]
    [InlineData(4, 2, 64)]
    [InlineData(4, 1, 4)]
    [InlineData(4, 1, 12)]
    [InlineData(4, 1, 2048)]
    [InlineData(4, 0, 0)]
    public void What_cannot_be_packed_is_refused(int bits, int axis, int group) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Registry.Method("hqq").Complete(new() { Method = "hqq", Bits = bits, Axis = axis, GroupSize = group })).Kind);

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
