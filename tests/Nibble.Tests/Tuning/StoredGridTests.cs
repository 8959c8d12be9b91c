using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Tests.Tuning;

/// <summary>Rounding to the grid of a stored weight.</summary>
public class StoredGridTests
{
    public static TheoryData<string, int> Methods => new()
    {
        { "rtn", 2 }, { "rtn", 3 }, { "rtn", 4 }, { "rtn", 8 }, { "quanto", 4 }, { "hqq", 4 }, { "nf4", 4 }, { "fp4", 4 }, { "int8", 8 }, { "ternary", 0 },
    };

    [Theory]
    [MemberData(nameof(Methods))]
    public void NearestIsTheNearestOfAllCodes(string method, int bits)
    {
        using Tensor matrix = Random(6, 128, seed: 4);
        using QuantizedWeight weight = Quantize(matrix, method, bits);
        StoredGrid grid = StoredGrid.Of(weight);
        int codes = weight switch { TernaryWeight => 3, CodebookWeight table => table.Levels.Length, _ => 1 << weight.Bits };
        using Tensor moved = Random(6, 128, seed: 5);
        for (int row = 0; row < 6; row++)
        {
            for (int column = 0; column < 128; column++)
            {
                float value = moved.HostSpan<float>()[(row * 128) + column] * 1.5f;
                float found = MathF.Abs(value - grid.Value(row, column, grid.Nearest(row, column, value)));
                float best = Enumerable.Range(0, codes).Min(code => MathF.Abs(value - grid.Value(row, column, (byte)code)));
                Assert.True(found <= best + 1e-6f, $"({row}, {column}): {found} away, {best} is possible");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void ValuesThatAreOnTheGridStay(string method, int bits)
    {
        using Tensor matrix = Random(6, 128, seed: 4);
        using QuantizedWeight weight = Quantize(matrix, method, bits);
        using Tensor values = weight.Dequantize();
        using QuantizedWeight again = StoredGrid.Of(weight).Round(values);
        using Tensor same = again.Dequantize();
        Assert.Equal(values.HostSpan<float>().ToArray(), same.HostSpan<float>().ToArray());
    }

    [Theory]
    [InlineData("rtn", 4)]
    [InlineData("nf4", 4)]
    public void WeighedRoundingKeepsTheOutputsBetterThanRoundingEachWeight(string method, int bits)
    {
        using Tensor matrix = Random(16, 128, seed: 4), change = Random(16, 128, seed: 6);
        using QuantizedWeight weight = Quantize(matrix, method, bits);
        using Tensor wanted = weight.Dequantize();
        for (int i = 0; i < wanted.HostSpan<float>().Length; i++)
        {
            wanted.HostSpan<float>()[i] += 0.05f * change.HostSpan<float>()[i];
        }

        // Inputs that share a direction, as activations do.
        float[] inputs = [.. Enumerable.Range(0, 300 * 128).Select(i => MathF.Sin(i / 128 * 0.7f) + (0.3f * MathF.Cos(i * 1.7f)))];
        GramStatistics gram = Gram(inputs, 300, 128);
        StoredGrid grid = StoredGrid.Of(weight);
        using QuantizedWeight naive = grid.Round(wanted), weighed = GridRounder.Round(grid, wanted, gram);
        double naiveError = OutputError(wanted, naive, gram), weighedError = OutputError(wanted, weighed, gram);
        Assert.True(weighedError < 0.5 * naiveError, $"{weighedError} against {naiveError}");
    }

    private static QuantizedWeight Quantize(Tensor matrix, string method, int bits) =>
        Registry.Method(method).Quantize("w", matrix, Registry.Method(method).Complete(new QuantizationSettings { Method = method, Bits = bits == 0 ? null : bits }));

    private static double OutputError(Tensor wanted, QuantizedWeight weight, GramStatistics gram)
    {
        using Tensor values = weight.Dequantize();
        int columns = gram.Columns;
        double sum = 0;
        for (int row = 0; row < wanted.Shape[0]; row++)
        {
            double[] error = [.. wanted.Slice(row, 1).HostSpan<float>().ToArray().Zip(values.Slice(row, 1).HostSpan<float>().ToArray(), (a, b) => (double)a - b)];
            for (int i = 0; i < columns; i++)
            {
                for (int j = 0; j < columns; j++)
                {
                    sum += error[i] * gram.Gram[(i * columns) + j] * error[j];
                }
            }
        }

        return sum;
    }

    private static GramStatistics Gram(float[] inputs, int rows, int columns)
    {
        double[] gram = new double[columns * columns];
        for (int row = 0; row < rows; row++)
        {
            for (int i = 0; i < columns; i++)
            {
                for (int j = 0; j < columns; j++)
                {
                    gram[(i * columns) + j] += (double)inputs[(row * columns) + i] * inputs[(row * columns) + j];
                }
            }
        }

        return new GramStatistics(rows, columns, gram);
    }

    private static Tensor Random(int rows, int columns, int seed)
    {
        Random random = new(seed);
        Tensor tensor = Tensor.OnHost(new Shape(rows, columns), DType.F32);
        foreach (ref float value in tensor.HostSpan<float>())
        {
            value = (float)((random.NextDouble() + random.NextDouble() + random.NextDouble()) - 1.5);
        }

        return tensor;
    }
}
