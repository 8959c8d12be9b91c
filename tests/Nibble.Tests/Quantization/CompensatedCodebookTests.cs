using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Quantization;

/// <summary>NF4 and FP4 whose codes are chosen on a text.</summary>
public class CompensatedCodebookTests
{
    private const int Rows = 48, Columns = 96;

    [Theory]
    [InlineData("nf4", 64, true)]
    [InlineData("nf4", 32, false)]
    [InlineData("fp4", 64, false)]
    public void OutputsOnTheTextChangeLessAndScalesStay(string method, int block, bool nested)
    {
        GramStatistics gram = Gram();
        QuantizationSettings settings = new() { Method = method, BlockSize = block, DoubleQuant = nested };
        using Tensor matrix = KernelData.Random(new Shape(Rows, Columns), 3);
        using CodebookWeight plain = Quantize(matrix, settings, null), compensated = Quantize(matrix, settings with { Compensate = true }, gram);
        Assert.Equal(plain.Absmax, compensated.Absmax);
        Assert.Equal(plain.Nested?.Codes, compensated.Nested?.Codes);
        Assert.Equal(plain.Facts, compensated.Facts);
        (double before, double after) = (OutputError(matrix, plain, gram), OutputError(matrix, compensated, gram));
        Assert.True(after < 0.6 * before, $"error of outputs {before} without, {after} with compensation");
    }

    [Fact]
    public void WithoutATextItIsRefused()
    {
        using Tensor matrix = KernelData.Random(new Shape(Rows, Columns), 3);
        NibbleException error = Assert.Throws<NibbleException>(() => Quantize(matrix, new() { Method = "nf4", Compensate = true }, null));
        Assert.Contains("--data", error.Message, StringComparison.Ordinal);
        Assert.Contains("--compensate", Assert.Throws<NibbleException>(() => Registry.Method("rtn").Complete(new() { Method = "rtn", Compensate = true })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nf4", true)]
    [InlineData("fp4", false)]
    [InlineData("ternary", false)]
    [InlineData("rtn", false)]
    [InlineData("int8", false)]
    public void WhatAnInterruptedRunRemembersIsTheSameWeight(string method, bool nested)
    {
        using Tensor matrix = KernelData.Random(new Shape(Rows, Columns), 3), other = KernelData.Random(new Shape(Rows, Columns), 4);
        IQuantizationMethod made = Registry.Method(method);
        using QuantizedWeight weight = made.Quantize("w", matrix, made.Complete(new() { Method = method, DoubleQuant = nested ? true : null }));
        using MemoryStream stream = new();
        using (BinaryWriter writer = new(stream, System.Text.Encoding.UTF8, leaveOpen: true))
        {
            new WeightRecord(weight, new LayerCoverage("layer", 7, 1)).Write(writer);
        }

        stream.Position = 0;
        using BinaryReader reader = new(stream);
        WeightRecord read = WeightRecord.Read(reader);
        Assert.Equal(stream.Length, stream.Position);
        Assert.Equal(new LayerCoverage("layer", 7, 1), read.Coverage);
        Assert.Equal(weight.Facts, read.Weight.Facts);
        Assert.Equal(WeightDigest.Of(weight), WeightDigest.Of(read.Weight));
        using Tensor expected = weight.Dequantize(), actual = read.Weight.Dequantize();
        KernelData.Equal(actual, expected, method);
        read.Weight.Dispose();
    }

    private static CodebookWeight Quantize(Tensor matrix, QuantizationSettings settings, GramStatistics? gram)
    {
        IQuantizationMethod method = Registry.Method(settings.Method);
        return (CodebookWeight)method.Quantize("w", matrix, method.Complete(settings), gram);
    }

    /// <summary>Inputs of which some columns are large and neighbours go together.</summary>
    private static GramStatistics Gram()
    {
        const int tokens = 400;
        Random random = new(2);
        double[] gram = new double[Columns * Columns], x = new double[Columns];
        for (int token = 0; token < tokens; token++)
        {
            double last = 0;
            for (int i = 0; i < Columns; i++)
            {
                last = (0.8 * last) + random.NextDouble() - 0.5;
                x[i] = last * (i % 7 == 0 ? 3 : 1);
            }

            for (int i = 0; i < Columns * Columns; i++)
            {
                gram[i] += x[i / Columns] * x[i % Columns];
            }
        }

        return new GramStatistics(tokens, Columns, gram);
    }

    /// <summary>Σ over rows of e·G·eᵀ, e what rounding changed in the row.</summary>
    private static double OutputError(Tensor matrix, QuantizedWeight weight, GramStatistics gram)
    {
        using Tensor error = weight.Dequantize();
        using Tensor wanted = KernelData.Widen(matrix);
        using RepairSolver solver = new(gram);
        Span<float> values = error.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] -= wanted.HostSpan<float>()[i];
        }

        return solver.Of(error);
    }
}
