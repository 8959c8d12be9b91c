using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>What every data-free method must do.</summary>
public sealed class MethodTests
{
    public static TheoryData<string> All => [.. Methods.DataFree.Select(settings => settings.ToString())];

    [Theory]
    [MemberData(nameof(All))]
    public void The_error_is_within_the_bound_of_the_grid(string settings)
    {
        using Tensor input = Methods.Input(24, 200, 3);
        using QuantizedWeight weight = Methods.Quantize(input, settings);
        using Tensor values = weight.Dequantize();
        double bound = Methods.Bound(weight.Facts) * VectorMax(input);
        WeightError error = WeightError.Of(input, weight);
        Assert.InRange(error.Largest, 0, bound * 1.01);
        Assert.All(values.HostSpan<float>().ToArray(), value => Assert.True(float.IsFinite(value)));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Facts_known_before_the_work_are_those_of_the_result(string settings)
    {
        using Tensor input = Methods.Input(12, 96, 4);
        using QuantizedWeight weight = Methods.Quantize(input, settings);
        QuantizationSettings complete = Methods.Complete(settings);
        Assert.Equal(Registry.Method(complete.Method).FactsOf(complete, 12, 96), weight.Facts);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Scales_are_rounded_to_their_stored_dtype_already(string settings)
    {
        using Tensor input = Methods.Input(16, 132, 5);
        using QuantizedWeight weight = Methods.Quantize(input, settings);
        float[] scales = weight switch { AffineWeight affine => affine.Scales, TernaryWeight ternary => ternary.Scales, _ => [] };
        using Tensor exact = Tensor.From<float>(new Shape(scales.Length), DType.F32, scales);
        using Tensor rounded = exact.To(weight.Facts.ScaleDType);
        using Tensor back = rounded.To(DType.F32);
        Assert.Equal(scales, back.HostSpan<float>().ToArray());
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Zeros_stay_zero_and_equal_input_gives_equal_codes(string settings)
    {
        using Tensor zeros = Tensor.OnHost(new Shape(8, 128), DType.F32);
        using QuantizedWeight weight = Methods.Quantize(zeros, settings);
        using Tensor values = weight.Dequantize();
        Assert.All(values.HostSpan<float>().ToArray(), value => Assert.Equal(0, value));

        using Tensor input = Methods.Input(320, 257, 6);
        using QuantizedWeight first = Methods.Quantize(input, settings), second = Methods.Quantize(input, settings);
        Assert.Equal(WeightDigest.Of(first), WeightDigest.Of(second));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Numbers_of_any_size_give_finite_weights(string settings)
    {
        foreach (float size in new[] { 1e-38f, 1e-20f, 1e-7f, 3e4f })
        {
            using Tensor input = Methods.Input(8, 64, 7);
            foreach (ref float value in input.HostSpan<float>())
            {
                value *= size;
            }

            using QuantizedWeight weight = Methods.Quantize(input, settings);
            using Tensor values = weight.Dequantize();
            Assert.All(values.HostSpan<float>().ToArray(), value => Assert.True(float.IsFinite(value)));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Not_a_number_and_infinity_are_refused_by_name(string settings)
    {
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            using Tensor input = Methods.Input(4, 32, 8);
            input.HostSpan<float>()[77] = bad;
            QuantizationSettings complete = Methods.Complete(settings);
            NibbleException error = Assert.Throws<NibbleException>(() => Registry.Method(complete.Method).Quantize("layer.7.weight", input, complete));
            Assert.Equal(ErrorKind.BadInput, error.Kind);
            Assert.Contains("layer.7.weight", error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("nf4", "--bits", 8, null, null)]
    [InlineData("rtn", "--bits", 9, null, null)]
    [InlineData("rtn", "--group-size", null, 0, null)]
    [InlineData("rtn", "--block-size", null, null, 64)]
    [InlineData("fp4", "--block-size", null, null, 48)]
    [InlineData("int8", "--group-size", null, 64, null)]
    [InlineData("quanto", "--bits", 3, null, null)]
    [InlineData("ternary", "--group-size", null, 64, null)]
    public void Settings_that_make_no_sense_are_refused_with_what_is_possible(string method, string flag, int? bits, int? group, int? block)
    {
        QuantizationSettings settings = new() { Method = method, Bits = bits, GroupSize = group, BlockSize = block };
        NibbleException error = Assert.Throws<NibbleException>(() => Registry.Method(method).Complete(settings));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains(flag, error.What, StringComparison.Ordinal);
        Assert.NotNull(error.Why);
    }

    [Fact]
    public void Unknown_methods_are_refused_with_the_list()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Registry.Method("nf5"));
        Assert.Contains("nf4", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_ternary_matrix_is_kept_exactly()
    {
        float[] values = [.. Enumerable.Range(0, 64).Select(i => ((i % 3) - 1) * 0.37f)];
        using Tensor input = Tensor.From<float>(new Shape(8, 8), DType.F32, values);
        using QuantizedWeight weight = Methods.Quantize(input, "ternary");
        using Tensor back = weight.Dequantize();
        Assert.Equal(values, back.HostSpan<float>().ToArray());
    }

    private static double VectorMax(Tensor input) => input.HostSpan<float>().ToArray().Max(Math.Abs);
}
