using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Ops;

namespace Nibble.Tests.Kernels;

/// <summary>The errors that the comments of <see cref="VectorMath{S, V}"/> state, over the whole range of floats.</summary>
public unsafe class VectorMathTests
{
    [Fact]
    public void ExpIsWithinTwoUnitsInTheLastPlace()
    {
        foreach (float x in Sample(-87f, 88.7f))
        {
            double exact = Math.Exp(x);
            double unit = MathF.BitIncrement((float)exact) - (double)(float)exact;
            foreach (float actual in Evaluate(x, &Exp256, &Exp512, &Exp1))
            {
                Assert.True(Math.Abs(actual - exact) <= 2 * unit, $"exp({x:R}) = {actual:R}, exactly {exact:R}");
            }
        }
    }

    [Theory]
    [InlineData(float.NegativeInfinity, 0f)]
    [InlineData(-1000f, 0f)]
    [InlineData(-88f, 0f)]
    [InlineData(0f, 1f)]
    [InlineData(89f, float.PositiveInfinity)]
    [InlineData(float.PositiveInfinity, float.PositiveInfinity)]
    [InlineData(float.NaN, float.NaN)]
    public void ExpAtTheEndsOfTheRange(float x, float expected) =>
        Assert.All(Evaluate(x, &Exp256, &Exp512, &Exp1), actual => Assert.Equal(expected, actual));

    [Fact]
    public void ErfComplementHasTheStatedRelativeError()
    {
        foreach (float z in Sample(0, 9))
        {
            double exact = Gelu.ErfComplement(z);
            foreach (float actual in Evaluate(z, &Erfc256, &Erfc512, &Erfc1))
            {
                Assert.True(Math.Abs(actual - exact) <= 5e-7 * (1 + (z * z)) * exact, $"erfc({z:R}) = {actual:R}, exactly {exact:R}");
            }
        }
    }

    // Floats of the range, evenly in their bits, so that small numbers are as frequent as large ones.
    private static IEnumerable<float> Sample(float low, float high)
    {
        for (long bits = 0; bits < 1L << 32; bits += 40_009)
        {
            float x = BitConverter.UInt32BitsToSingle((uint)bits);
            if (x >= low && x <= high)
            {
                yield return x;
            }
        }
    }

    private static float[] Evaluate(float x, delegate*<float, float> a, delegate*<float, float> b, delegate*<float, float> c) =>
        [a(x), b(x), c(x)];

    private static float Exp256(float x) => VectorMath<Lanes256, Vector256<float>>.Exp(Vector256.Create(x))[7];

    private static float Exp512(float x) => VectorMath<Lanes512, Vector512<float>>.Exp(Vector512.Create(x))[15];

    private static float Exp1(float x) => VectorMath<Lanes1, float>.Exp(x);

    private static float Erfc256(float x) => VectorMath<Lanes256, Vector256<float>>.ErfComplement(Vector256.Create(x))[0];

    private static float Erfc512(float x) => VectorMath<Lanes512, Vector512<float>>.ErfComplement(Vector512.Create(x))[3];

    private static float Erfc1(float x) => VectorMath<Lanes1, float>.ErfComplement(x);
}
