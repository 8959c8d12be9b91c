using Nibble.Quantization.LowRank;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Quantization;

public class TruncatedSvdTests
{
    [Theory]
    [InlineData(60, 90, 5)]
    [InlineData(90, 40, 8)]
    [InlineData(7, 5, 5)]
    [InlineData(1, 12, 4)]
    public void TheLargestPartsAreThoseThatTheMatrixWasMadeOf(int rows, int columns, int rank)
    {
        // Singular values 2^-i with orthonormal vectors, taken from the decomposition of a random matrix.
        int known = Math.Min(rows, columns);
        using Tensor random = KernelData.Random(new Shape(rows, columns), 1);
        TruncatedSvd bases = TruncatedSvd.Of(random, known, 3);
        using Tensor matrix = Tensor.OnHost(new Shape(rows, columns), DType.F32);
        Span<float> values = matrix.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)Enumerable.Range(0, known).Sum(r => Math.Pow(2, -r) * bases.Left[(i / columns * known) + r] * bases.Right[(r * columns) + (i % columns)]);
        }

        TruncatedSvd svd = TruncatedSvd.Of(matrix, rank, 4);
        int found = Math.Min(rank, known);
        Assert.Equal(found, svd.Values.Length);
        for (int r = 0; r < found; r++)
        {
            Assert.Equal(Math.Pow(2, -r), svd.Values[r], 1e-6);
            double overlap = Enumerable.Range(0, rows).Sum(i => svd.Left[(i * found) + r] * bases.Left[(i * known) + r]);
            Assert.Equal(1, Math.Abs(overlap), 1e-4);
        }
    }

    [Fact]
    public void TheSameSeedGivesTheSameBits()
    {
        using Tensor matrix = KernelData.Random(new Shape(70, 130), 1);
        TruncatedSvd first = TruncatedSvd.Of(matrix, 6, 9), second = TruncatedSvd.Of(matrix, 6, 9);
        Assert.Equal(first.Left, second.Left);
        Assert.Equal(first.Right, second.Right);
        using Tensor zero = Tensor.OnHost(new Shape(4, 6), DType.F32);
        Assert.All(TruncatedSvd.Of(zero, 2, 1).Right, value => Assert.Equal(0, value));
    }
}
