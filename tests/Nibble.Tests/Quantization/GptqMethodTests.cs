using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public class GptqMethodTests
{
    private const int Rows = 48, Columns = 96;

    [Theory]
    [InlineData(2, 32, false)]
    [InlineData(3, 32, false)]
    [InlineData(4, 32, true)]
    [InlineData(4, -1, false)]
    [InlineData(3, 40, true)]
    [InlineData(8, 96, false)]
    public void TheOutputErrorIsWellBelowThatOfRounding(int bits, int group, bool actOrder)
    {
        GramStatistics gram = Correlated(deadColumn: null);
        using Tensor weight = Weight();
        double gptq = Error(weight, Quantize(new GptqMethod(), weight, gram, new() { Method = "gptq", Bits = bits, GroupSize = group, ActOrder = actOrder }), gram);
        double rounding = Error(weight, Quantize(new RtnMethod(), weight, gram, new() { Method = "rtn", Bits = bits, GroupSize = group }), gram);
        Assert.True(gptq < 0.7 * rounding, $"GPTQ {gptq:G4}, rounding {rounding:G4}");
    }

    [Fact]
    public void ADeadInputDoesNotDisturbTheOthers()
    {
        GramStatistics gram = Correlated(deadColumn: 7);
        Assert.Equal(1, gram.DeadInputs);
        using Tensor weight = Weight();
        double error = Error(weight, Quantize(new GptqMethod(), weight, gram, new() { Method = "gptq", Bits = 8 }), gram);
        Assert.True(double.IsFinite(error) && error < 1e-3, $"error {error}");
    }

    [Fact]
    public void ASingularHessianIsDampedUntilItCanBeFactored()
    {
        // One sample only: rank 1.
        double[] one = [.. Enumerable.Range(0, Columns * Columns).Select(i => (1.0 + (i / Columns % 3)) * (1.0 + (i % Columns % 3)))];
        using Tensor weight = Weight();
        using QuantizedWeight result = Quantize(new GptqMethod(), weight, new GramStatistics(1, Columns, one), new() { Method = "gptq", Bits = 4 });
        Assert.Equal(weight.Shape, result.Codes.Shape);
    }

    [Fact]
    public void WithoutCalibrationItRefuses()
    {
        using Tensor weight = Weight();
        GptqMethod method = new();
        NibbleException error = Assert.Throws<NibbleException>(
            () => method.Quantize("layer", weight, method.Complete(new() { Method = "gptq" })));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("--data", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATextThatIsTooShortSaysHowMuchIsMissing()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => CalibrationSamples.Choose(new int[1000], 128, 512, 1));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("33,024", error.Message, StringComparison.Ordinal);
        Assert.Contains("32,024", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SamplesAreDifferentWindowsAndDependOnTheSeedOnly()
    {
        int[] tokens = [.. Enumerable.Range(0, 100)];
        IReadOnlyList<int[]> samples = CalibrationSamples.Choose(tokens, 9, 10, 3);
        Assert.Equal(9, samples.Select(sample => sample[0]).Distinct().Count());
        Assert.All(samples, sample => Assert.Equal(sample[0] + 9, sample[^1]));
        Assert.Equal(samples, CalibrationSamples.Choose(tokens, 9, 10, 3));
        Assert.NotEqual(samples, CalibrationSamples.Choose(tokens, 9, 10, 4));
    }

    private static QuantizedWeight Quantize(IQuantizationMethod method, Tensor weight, GramStatistics gram, QuantizationSettings settings) =>
        method.Quantize("layer", weight, method.Complete(settings), gram);

    /// <summary>‖(W − Ŵ)·X‖² relative to ‖W·X‖², from the Gram matrix of X.</summary>
    private static double Error(Tensor weight, QuantizedWeight quantized, GramStatistics gram)
    {
        using (quantized)
        {
            using Tensor values = quantized.Dequantize();
            double error = 0, norm = 0;
            for (int row = 0; row < Rows; row++)
            {
                float[] w = weight.Slice(row, 1).HostSpan<float>().ToArray(), q = values.Slice(row, 1).HostSpan<float>().ToArray();
                error += Quadratic([.. w.Zip(q, (a, b) => (double)a - b)], gram);
                norm += Quadratic([.. w.Select(x => (double)x)], gram);
            }

            return error / norm;
        }
    }

    private static double Quadratic(double[] x, GramStatistics gram)
    {
        double sum = 0;
        for (int i = 0; i < Columns; i++)
        {
            for (int j = 0; j < Columns; j++)
            {
                sum += x[i] * gram.Gram[(i * Columns) + j] * x[j];
            }
        }

        return sum;
    }

    private static Tensor Weight()
    {
        Random random = new(1);
        float[] values = [.. Enumerable.Range(0, Rows * Columns).Select(_ => (float)(random.NextDouble() + random.NextDouble() - 1))];
        return Tensor.From<float>(new Shape(Rows, Columns), DType.F32, values);
    }

    /// <summary>Inputs that follow a few directions, as activations do, and some noise.</summary>
    private static GramStatistics Correlated(int? deadColumn)
    {
        Random random = new(2);
        double[][] directions = [.. Enumerable.Range(0, 12).Select(_ => Enumerable.Range(0, Columns).Select(_ => random.NextDouble() - 0.5).ToArray())];
        double[] gram = new double[Columns * Columns];
        const int Tokens = 400;
        for (int t = 0; t < Tokens; t++)
        {
            double[] x = [.. Enumerable.Range(0, Columns).Select(_ => 0.05 * (random.NextDouble() - 0.5))];
            foreach (double[] direction in directions)
            {
                double strength = random.NextDouble() - 0.5;
                x = [.. x.Zip(direction, (a, b) => a + (strength * b))];
            }

            if (deadColumn is { } dead)
            {
                x[dead] = 0;
            }

            for (int i = 0; i < Columns * Columns; i++)
            {
                gram[i] += x[i / Columns] * x[i % Columns];
            }
        }

        return new GramStatistics(Tokens, Columns, gram);
    }
}
