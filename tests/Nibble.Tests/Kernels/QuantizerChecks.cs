using Nibble.Backends;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>Methods on a device against the same methods on the processor: codes, scales and errors, bit for bit where that is promised. For backends that have a quantizer.</summary>
internal static class QuantizerChecks
{
    // HQQ on a card sums in another order: a code may fall on the other side of a half.
    private const double HqqCodes = 2e-3;

    private static readonly QuantizationSettings[] Exact =
    [
        new() { Method = "nf4" }, new() { Method = "nf4", DoubleQuant = true }, new() { Method = "nf4", BlockSize = 4096 }, new() { Method = "fp4", BlockSize = 32 },
        new() { Method = "rtn" }, new() { Method = "rtn", Bits = 3, GroupSize = 20, ScaleDType = DType.BF16 }, new() { Method = "rtn", Bits = 8, Symmetric = true },
        new() { Method = "rtn", Bits = 2, GroupSize = QuantizationSettings.WholeRow, ScaleDType = DType.F32 }, new() { Method = "quanto", Bits = 8 },
        new() { Method = "quanto", Bits = 4, ScaleDType = DType.BF16 }, new() { Method = "quanto", Bits = 2 }, new() { Method = "int8" }, new() { Method = "ternary" },
        new() { Method = "ternary", GroupSize = QuantizationSettings.WholeRow, ScaleDType = DType.BF16 },
    ];

    private static readonly QuantizationSettings[] Near =
    [
        new() { Method = "hqq" }, new() { Method = "hqq", Axis = 0 }, new() { Method = "hqq", Bits = 3, GroupSize = 32, ScaleDType = DType.BF16 },
        new() { Method = "hqq", Bits = 2, GroupSize = 16, ScaleDType = DType.F32 }, new() { Method = "hqq", Bits = 8, GroupSize = QuantizationSettings.WholeRow },
    ];

    private static readonly QuantizationSettings[] Calibrated =
    [
        new() { Method = "gptq" }, new() { Method = "gptq", Bits = 3, GroupSize = 20, ActOrder = true }, new() { Method = "gptq", GroupSize = QuantizationSettings.WholeRow, Symmetric = true },
        new() { Method = "gptq", Bits = 3, GroupSize = 32, ActOrder = true, StaticGroups = true, ScaleDType = DType.BF16 }, new() { Method = "gptq", Bits = 2, GroupSize = 64, Mse = true },
    ];

    public static IReadOnlyList<KernelCheck> All { get; } =
    [
        .. Exact.Select(settings => Complete(settings)).Select(settings => new KernelCheck($"quantize {settings}", backend => Check(backend, settings, exact: true))),
        .. Near.Select(settings => Complete(settings)).Select(settings => new KernelCheck($"quantize {settings}", backend => Check(backend, settings, exact: false))),
        .. Calibrated.Select(settings => Complete(settings)).Select(settings => new KernelCheck($"quantize {settings}", backend => CheckGptq(backend, settings))),
        new("quantize: second moments of inputs", Moments),
        new("quantize: a Hessian that takes more damping", Damped),
        new("quantize refuses NaN and scales that do not fit", Refusals),
    ];

    private static QuantizationSettings Complete(QuantizationSettings settings) => Registry.Method(settings.Method).Complete(settings);

    private static void Check(IBackend backend, QuantizationSettings settings, bool exact)
    {
        // The second one has rows of zeros, equal values, and a last block that is not whole where no group has to divide it.
        (int Rows, int Columns)[] shapes = exact ? KernelData.Sizes([(33, 192), (5, 100), (1, 7)], 1) : KernelData.Sizes([(33, 192), (64, 96)], 1);
        foreach ((int rows, int columns) in shapes)
        {
            foreach (DType dtype in KernelData.Sizes([DType.F32, DType.BF16, DType.F16], 1))
            {
                using Tensor floats = Matrix(rows, columns), stored = floats.To(dtype), dense = stored.To(DType.F32);
                (QuantizedWeight made, WeightError error) = backend.Quantizer!.Quantize("test", stored, settings);
                using QuantizedWeight actual = made, expected = Registry.Method(settings.Method).Quantize("test", dense, settings);
                Compare($"{settings}, {rows} × {columns}, {dtype}", actual, expected, exact);
                WeightError own = WeightError.Of(dense, actual);
                Require(own == error, $"{settings}: an error of {error}, the processor finds {own}");
            }
        }
    }

    /// <summary>The same second moments in both solvers: the error of the layer's output must be that of the processor within 1 %, and most codes the same.</summary>
    private static void CheckGptq(IBackend backend, QuantizationSettings settings)
    {
        (int Rows, int Columns)[] shapes = KernelData.Sizes([(19, 150), (16, 256), (3, 20)], 0);
        foreach ((int rows, int columns) in shapes)
        {
            using Tensor dense = KernelData.Random(new Shape(rows, columns), rows);
            using Tensor inputs = Inputs(3 * columns, columns);
            GramStatistics card = Collect(backend, inputs);
            using IDeviceGram device = card.Device!;
            GramStatistics host = new(card.Tokens, columns, card.Gram);
            (QuantizedWeight made, WeightError error) = backend.Quantizer!.Quantize("test", dense, settings, card);
            using QuantizedWeight actual = made, expected = Registry.Method(settings.Method).Quantize("test", dense, settings, host);
            using QuantizedWeight again = backend.Quantizer.Quantize("test", dense, settings, card).Weight;
            double own = OutputError(dense, actual, host), other = OutputError(dense, expected, host);
            string what = $"{settings}, {rows} × {columns}";
            Require(Math.Abs(own - other) <= 0.01 * other, $"{what}: an error of {own}, on the processor {other}");
            Require(Differing(actual, expected) <= 0.02 * actual.Codes.Shape.Count, $"{what}: {Differing(actual, expected)} codes differ from the processor's");
            Require(Differing(actual, again) == 0 && ((AffineWeight)actual).Scales.AsSpan().SequenceEqual(((AffineWeight)again).Scales), $"{what}: two runs differ");
            Require(actual.Facts == expected.Facts, $"{what}: {actual.Facts}, expected {expected.Facts}");
            Require(WeightError.Of(dense, actual) == error, $"{what}: another error than the processor's");
            using IPackedWeight values = backend.Quantizer.Values(actual);
            Require(values.Out == rows && values.In == columns, $"{what}: values of another shape");
        }
    }

    private static void Moments(IBackend backend)
    {
        foreach (DType dtype in backend.Computes(DType.BF16) ? new[] { DType.F32, DType.BF16 } : [DType.F32])
        {
            // More columns than a strip of the product.
            foreach ((int rows, int columns) in KernelData.Sizes([(70, 33), (9, 1030)], 0))
            {
                using Tensor x = Inputs(rows, columns), stored = x.To(dtype), read = stored.To(DType.F32);
                GramStatistics card = Collect(backend, stored);
                using IDeviceGram device = card.Device!;
                Span<float> values = read.HostSpan<float>();
                for (int i = 0; i < columns; i += 7)
                {
                    double magnitude = 0;
                    for (int row = 0; row < rows; row++)
                    {
                        magnitude += Math.Abs((double)values[(row * columns) + i]) / rows;
                    }

                    Require(Math.Abs(card.Magnitudes[i] - magnitude) <= 1e-5 * (1 + magnitude), $"magnitude {i}: {card.Magnitudes[i]}, expected {magnitude}");
                    for (int j = 0; j < columns; j += 11)
                    {
                        double sum = 0;
                        for (int row = 0; row < rows; row++)
                        {
                            sum += (double)values[(row * columns) + i] * values[(row * columns) + j];
                        }

                        double actual = card.Gram[((long)i * columns) + j];
                        Require(Math.Abs(actual - sum) <= 1e-5 * rows, $"{dtype}: gram [{i}, {j}] of {columns} is {actual}, expected {sum}");
                    }
                }

                Require(card.Tokens == rows && card.DeadInputs == (columns > 5 ? 1 : 0), $"{card.Tokens} rows, {card.DeadInputs} dead inputs");
            }
        }
    }

    private static void Damped(IBackend backend)
    {
        // Fewer rows than columns, and no damping to begin with.
        using Tensor x = Inputs(10, 64), dense = KernelData.Random(new Shape(8, 64), 3);
        GramStatistics card = Collect(backend, x);
        using IDeviceGram device = card.Device!;
        using QuantizedWeight weight = backend.Quantizer!.Quantize("test", dense, Complete(new() { Method = "gptq", Damping = 0 }), card).Weight;
        Require(card.RaisedDamping is > 0 and < 0.1, $"a damping of {card.RaisedDamping}");
    }

    private static GramStatistics Collect(IBackend backend, Tensor x)
    {
        IGramCollector collector = backend.Quantizer!.Collect((int)x.Shape[1], null);
        using Tensor own = x.Upload(backend);
        collector.Add(own);
        return collector.Finish();
    }

    // Inputs that depend on each other, one of them much larger than the rest, and one that is always zero.
    private static Tensor Inputs(int rows, int columns)
    {
        Tensor x = KernelData.Random(new Shape(rows, columns), rows + columns);
        Span<float> values = x.HostSpan<float>();
        for (int row = 0; row < rows; row++)
        {
            Span<float> line = values.Slice(row * columns, columns);
            for (int i = 1; i < columns; i++)
            {
                line[i] += 0.5f * line[i - 1];
            }

            line[2] *= 8;
            line[Math.Min(5, columns - 1)] = columns > 5 ? 0 : line[columns - 1];
        }

        return x;
    }

    private static double OutputError(Tensor dense, QuantizedWeight weight, GramStatistics gram)
    {
        using Tensor values = weight.Dequantize();
        int n = gram.Columns;
        double total = 0;
        for (int row = 0; row < (int)dense.Shape[0]; row++)
        {
            double[] d = [.. dense.Slice(row, 1).HostSpan<float>().ToArray().Zip(values.Slice(row, 1).HostSpan<float>().ToArray(), (a, b) => (double)a - b)];
            for (int i = 0; i < n; i++)
            {
                double line = 0;
                for (int j = 0; j < n; j++)
                {
                    line += gram.Gram[(i * n) + j] * d[j];
                }

                total += d[i] * line;
            }
        }

        return total;
    }

    private static int Differing(QuantizedWeight one, QuantizedWeight other) =>
        one.Codes.HostSpan<byte>().ToArray().Zip(other.Codes.HostSpan<byte>().ToArray()).Count(pair => pair.First != pair.Second);

    private static Tensor Matrix(int rows, int columns)
    {
        Tensor matrix = KernelData.Random(new Shape(rows, columns), rows + columns);
        Span<float> values = matrix.HostSpan<float>();
        if (rows > 4)
        {
            values.Slice(columns, columns).Clear();
            values.Slice(2 * columns, columns).Fill(0.25f);
            values[3 * columns] = 40;
        }

        return matrix;
    }

    private static void Compare(string what, QuantizedWeight actual, QuantizedWeight expected, bool exact)
    {
        int differing = Differing(actual, expected), count = (int)actual.Codes.Shape.Count;
        Require(actual.Facts == expected.Facts, $"{what}: {actual.Facts}, expected {expected.Facts}");
        Require(differing <= (exact ? 0 : HqqCodes * count), $"{what}: {differing} of {count} codes differ");
        foreach ((float[] own, float[] other) in Numbers(actual).Zip(Numbers(expected)))
        {
            double largest = own.Zip(other, (x, y) => Math.Abs((double)x - y) / Math.Max(1e-3, Math.Abs(y))).DefaultIfEmpty().Max();
            Require(own.Length == other.Length && largest <= (exact ? 0 : 0.01), $"{what}: scales or offsets differ by {largest}");
        }
    }

    private static float[][] Numbers(QuantizedWeight weight) => weight switch
    {
        AffineWeight affine => [affine.Scales, affine.Offsets],
        CodebookWeight codebook => [codebook.Absmax, codebook.Levels],
        TernaryWeight ternary => [ternary.Scales],
        _ => throw new InvalidOperationException(weight.GetType().Name),
    };

    private static void Refusals(IBackend backend)
    {
        using Tensor matrix = KernelData.Random(new Shape(4, 64), 1);
        matrix.HostSpan<float>()[70] = float.NaN;
        RequireError(() => backend.Quantizer!.Quantize("layer", matrix, Complete(new() { Method = "nf4" })), "element 70");
        matrix.HostSpan<float>()[70] = 3e6f;
        RequireError(() => backend.Quantizer!.Quantize("layer", matrix, Complete(new() { Method = "rtn" })), "does not fit");
    }

    private static void RequireError(Action action, string part)
    {
        try
        {
            action();
        }
        catch (NibbleException error)
        {
            Require(error.Message.Contains(part, StringComparison.Ordinal), error.Message);
            return;
        }

        throw new InvalidOperationException($"no error that says '{part}'");
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new InvalidOperationException(message);
        }
    }
}
