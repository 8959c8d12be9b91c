using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tests.Tensors;

public class TensorConvertTests
{
    /// <summary>All 65,536 half precision numbers, against the runtime's own scalar conversion.</summary>
    [Fact]
    public void EveryHalfIsWidenedExactly()
    {
        ushort[] bits = AllBits();
        float[] wide = new float[bits.Length];
        TensorConvert.F16ToF32(bits, wide);
        for (int i = 0; i < bits.Length; i++)
        {
            float expected = (float)BitConverter.UInt16BitsToHalf(bits[i]);
            Assert.True(float.IsNaN(expected) ? float.IsNaN(wide[i]) : Same(expected, wide[i]), $"{bits[i]:x4}: {wide[i]}");
        }
    }

    [Fact]
    public void EveryHalfAndEveryBfloat16ComesBack()
    {
        ushort[] bits = AllBits();
        float[] wide = new float[bits.Length];
        ushort[] back = new ushort[bits.Length];
        TensorConvert.F16ToF32(bits, wide);
        TensorConvert.F32ToF16(wide, back);
        AssertSameNumbers(bits, back, value => Half.IsNaN(BitConverter.UInt16BitsToHalf(value)));

        TensorConvert.BF16ToF32(bits, wide);
        TensorConvert.F32ToBF16(wide, back);
        AssertSameNumbers(bits, back, value => (value & 0x7FFF) > 0x7F80);
    }

    /// <summary>Both neighbours, the middle, and just beside the middle of every pair of numbers: the places where rounding decides.</summary>
    [Fact]
    public void RoundingIsToNearestEven()
    {
        List<float> values = [float.MaxValue, float.MinValue, float.Epsilon, -0f, float.NaN, float.PositiveInfinity, 65504, 65519.996f, 65520, 1e-8f];
        for (int i = 0; i < 0x7C00; i++)
        {
            float low = (float)BitConverter.UInt16BitsToHalf((ushort)i);
            float high = i == 0x7BFF ? 65536 : (float)BitConverter.UInt16BitsToHalf((ushort)(i + 1));
            float middle = (float)(((double)low + high) / 2);
            values.AddRange([middle, -middle, MathF.BitIncrement(middle), MathF.BitDecrement(middle)]);
        }

        float[] source = [.. values];
        ushort[] target = new ushort[source.Length];
        TensorConvert.F32ToF16(source, target);
        for (int i = 0; i < source.Length; i++)
        {
            Half expected = (Half)source[i];
            Assert.True(Half.IsNaN(expected) ? Half.IsNaN(BitConverter.UInt16BitsToHalf(target[i])) : BitConverter.HalfToUInt16Bits(expected) == target[i], $"{source[i]:r}");
        }
    }

    [Theory]
    [InlineData(0x3F808000u, 0x3F80)] // the middle, even below
    [InlineData(0x3F818000u, 0x3F82)] // the middle, even above
    [InlineData(0x3F808001u, 0x3F81)]
    [InlineData(0x7F7FFFFFu, 0x7F80)] // the largest F32 rounds to infinity
    [InlineData(0x7F800001u, 0x7FC0)] // a NaN whose payload is cut stays a NaN
    [InlineData(0xFFFFFFFFu, 0xFFFF)]
    [InlineData(0x80000000u, 0x8000)]
    [InlineData(0x00000001u, 0x0000)]
    public void Bfloat16Rounds(uint bits, ushort expected)
    {
        // 17 elements: one vector and a scalar rest must agree.
        float[] source = Enumerable.Repeat(BitConverter.UInt32BitsToSingle(bits), 17).ToArray();
        ushort[] target = new ushort[17];
        TensorConvert.F32ToBF16(source, target);
        Assert.All(target, value => Assert.Equal(expected, value));
    }

    [Fact]
    public void TensorsConvertBetweenAllFloatTypes()
    {
        using Tensor source = Tensor.From<float>(new Shape(3, 7), DType.F32, Enumerable.Range(0, 21).Select(i => i / 4f).ToArray());
        using Tensor half = source.To(DType.F16);
        using Tensor brain = half.To(DType.BF16);
        using Tensor back = brain.To(DType.F32);
        Assert.Equal(source.HostSpan<float>(), back.HostSpan<float>());
        Assert.Throws<ArgumentException>(() => source.To(DType.I8));
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    public void TheFirstValueThatIsNotFiniteIsFound(DType dtype)
    {
        foreach (float bad in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
        {
            for (int at = 0; at < 37; at++)
            {
                float[] values = new float[37];
                Array.Fill(values, 60000f);
                values[at] = bad;
                values[36] = bad;
                using Tensor wide = Tensor.From<float>(new Shape(37), DType.F32, values);
                using Tensor tensor = wide.To(dtype);
                Assert.Equal(at, FiniteCheck.FirstNonFinite(tensor));
            }
        }

        using Tensor zeros = Tensor.OnHost(new Shape(37), dtype);
        Assert.Equal(-1, FiniteCheck.FirstNonFinite(zeros));
        FiniteCheck.Require(zeros, "w", "file");
    }

    [Fact]
    public void TheRefusalNamesFileTensorPlaceAndValue()
    {
        using Tensor tensor = Tensor.From<float>(new Shape(2, 2), DType.F32, [1, 2, float.NaN, 4]);
        NibbleException error = Assert.Throws<NibbleException>(() => FiniteCheck.Require(tensor, "h.0.w", "x.safetensors"));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("x.safetensors: tensor 'h.0.w'", error.What, StringComparison.Ordinal);
        Assert.Contains("element 2 of F32 [2, 2] is NaN", error.Why, StringComparison.Ordinal);
    }

    private static ushort[] AllBits() => Enumerable.Range(0, 65536).Select(i => (ushort)i).ToArray();

    private static bool Same(float a, float b) => BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b);

    private static void AssertSameNumbers(ushort[] expected, ushort[] actual, Func<ushort, bool> isNaN)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(isNaN(expected[i]) ? isNaN(actual[i]) : expected[i] == actual[i], $"{expected[i]:x4} became {actual[i]:x4}");
        }
    }
}
