using Nibble.Backends;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Products with int8 activations.</summary>
internal static class Int8Checks
{
    private static readonly (int Out, int In)[] Shapes = [(1, 1), (3, 20), (17, 64), (33, 100), (64, 128), (70, 515), (130, 384)];

    public static IEnumerable<KernelCheck> All
    {
        get
        {
            foreach (PackingKind kind in PackingCheckData.All)
            {
                yield return new($"int8 activations {kind}", b => Check(b, kind));
            }

            yield return new("int8 activations, largest codes", LargestCodes);
            yield return new("int8 activations, zero rows, NaN and infinity", SpecialValues);
            yield return new("llm.int8 with injected outliers", Outliers);
            yield return new("llm.int8 without outliers = int8 activations", WithoutOutliers);
        }
    }

    /// <summary>x as int8 and back: what the products multiply.</summary>
    public static Tensor Quantized(Tensor x, Func<float, bool>? isOutlier = null, bool[]? outlierColumns = null)
    {
        Tensor result = Empty(x.Shape);
        int columns = (int)x.Shape[1];
        for (int row = 0; row < (int)x.Shape[0]; row++)
        {
            Span<float> source = x.HostSpan<float>().Slice(row * columns, columns), target = result.HostSpan<float>().Slice(row * columns, columns);
            float absmax = 0;
            foreach (float value in source)
            {
                absmax = isOutlier?.Invoke(value) == true ? absmax : Math.Max(absmax, Math.Abs(value));
            }

            for (int k = 0; k < columns; k++)
            {
                bool skipped = outlierColumns?[k] == true || absmax == 0;
                target[k] = skipped ? 0 : MathF.Round(source[k] * (127 / absmax)) * (absmax / 127);
            }
        }

        return result;
    }

    private static void Check(IBackend backend, PackingKind kind)
    {
        foreach ((int outs, int ins) in Sizes(Shapes, 3))
        {
            if (kind.Name.Contains("strided", StringComparison.Ordinal) && outs * ins < 5)
            {
                continue;
            }

            using QuantizedWeight weight = kind.Make(outs, ins, new Random((outs * 1000) + ins));
            using IPackedWeight packed = backend.Prepare(weight, ActivationType.Int8);
            using QuantizedWeight unpacked = packed.Unpack()!;
            if (!unpacked.Codes.HostSpan<byte>().SequenceEqual(weight.Codes.HostSpan<byte>()))
            {
                throw new InvalidOperationException($"{kind} [{outs}, {ins}]: the unpacked weight has other codes");
            }

            Products(backend, packed, weight, $"{kind} [{outs}, {ins}]");
        }
    }

    private static void Products(IBackend backend, IPackedWeight packed, QuantizedWeight weight, string what)
    {
        (int outs, int ins) = ((int)weight.Out, (int)weight.In);
        using Tensor bias = Random(new Shape(outs), 3, skip: 1), dense = weight.Dequantize();
        float largest = 1 + dense.HostSpan<float>().ToArray().Max(MathF.Abs);

        // Levels of codebooks are rounded to 14 bits; everything else is exact up to the scales' rounding.
        float tolerance = (weight is CodebookWeight ? 1e-4f : 2e-6f) * largest * MathF.Sqrt(ins + 10);
        Tensor? all = null;
        using Tensor xs = Random(new Shape(19, ins), 7, skip: 1);
        foreach (int rows in Sizes([19, 0, 1, 2, 3, 4, 7], 0, 4))
        {
            using Tensor x = xs.Slice(0, rows), y = Empty(new Shape(rows, outs), skip: 1), expected = Empty(y.Shape);
            MatMul.Forward(backend, x, packed, bias, y);
            if (all is null)
            {
                using Tensor rounded = packed.Activations == ActivationType.Int8 ? Quantized(x) : x.Slice(0, rows);
                MatMul.Reference(rounded, dense, bias, expected);
                Close(y, expected, tolerance, $"{what}, {packed.Activations} x, {rows} rows");
                all = Empty(y.Shape);
                y.HostSpan<float>().CopyTo(all.HostSpan<float>());
            }

            SameProduct(backend, y, all.Slice(0, rows), 2 * tolerance, $"{what}: {rows} rows against 19 at once");
        }

        all!.Dispose();
    }

    // Every code and every activation at its largest: 16-bit sums of the kernels must not saturate.
    private static void LargestCodes(IBackend backend)
    {
        const int Outs = 40, Ins = 4096;
        foreach ((int bits, int rows) in Sizes([(2, 5), (2, 13), (3, 5), (3, 13), (4, 5), (4, 13), (8, 5), (8, 13)], 4, 7))
        {
            foreach (float offset in new[] { 0, (1 << bits) - 1, 0.5f })
            {
                using Tensor codes = Tensor.OnHost(new Shape(Outs, Ins), DType.U8), x = Empty(new Shape(rows, Ins)), y = Empty(new Shape(rows, Outs));
                for (int i = 0; i < Outs * Ins; i++)
                {
                    codes.HostSpan<byte>()[i] = (byte)(i / Ins % 3 == 0 ? (1 << bits) - 1 : i / Ins % 3 == 1 ? 0 : i % 2 * ((1 << bits) - 1));
                }

                for (int i = 0; i < rows * Ins; i++)
                {
                    x.HostSpan<float>()[i] = i / Ins == 4 ? (i % 2 == 0 ? 127 : -127) : i / Ins % 2 == 0 ? 127 : -127;
                }

                using AffineWeight weight = new(codes, bits, Ins, Same(Outs, 1), Same(Outs, offset));
                using IPackedWeight packed = backend.Prepare(weight, ActivationType.Int8);
                MatMul.Forward(backend, x, packed, null, y);
                using Tensor expected = Empty(y.Shape), dense = weight.Dequantize();
                MatMul.Reference(x, dense, null, expected);
                Close(y, expected, offset == 0.5f || backend.Name != "cpu" ? 1e-6f : 0, $"{bits} bits, offset {offset}");
            }
        }
    }

    private static void SpecialValues(IBackend backend)
    {
        using QuantizedWeight weight = PackingCheckData.Affine(20, 100, new Random(1), 4, 32);
        using IPackedWeight packed = backend.Prepare(weight, ActivationType.Int8);
        using Tensor x = Random(new Shape(5, 100), 1), y = Empty(new Shape(5, 20)), bias = Random(new Shape(20), 2);
        x.Slice(0, 1).HostSpan<float>().Clear();
        x.Slice(1, 1).HostSpan<float>()[99] = float.NaN;
        x.Slice(2, 1).HostSpan<float>()[3] = float.NegativeInfinity;
        x.Slice(3, 1).HostSpan<float>().Fill(1e-42f);
        MatMul.Forward(backend, x, packed, bias, y);
        Close(y.Slice(0, 1), bias.Reshape(new Shape(1, 20)), 0, "a row of zeros");
        Close(y.Slice(3, 1), bias.Reshape(new Shape(1, 20)), 1e-6f, "a row of tiny numbers");
        foreach (float value in y.Slice(1, 2).HostSpan<float>())
        {
            if (!float.IsNaN(value))
            {
                throw new InvalidOperationException($"a row with NaN or infinity gives {value}, expected NaN");
            }
        }
    }

    private static void Outliers(IBackend backend)
    {
        // More outliers than products add at once, and than they gather.
        foreach ((int rows, int outs, int ins, int count) in new[] { (1, 33, 100, 2), (7, 130, 384, 40), (2, 16, 20, 2), (70, 20, 136, 2), (260, 20, 136, 11), (300, 150, 264, 45) })
        {
            using AffineWeight weight = PackingCheckData.Affine(outs, ins, new Random(ins), 8, ins, offsets: 's');
            using IPackedWeight packed = backend.PrepareInt8(weight, 6);
            using Tensor x = Random(new Shape(rows, ins), 1, scale: 2), bias = Random(new Shape(outs), 3), y = Empty(new Shape(rows, outs));
            for (int n = 0; n < count - 1; n++)
            {
                x.HostSpan<float>()[5 + (3 * n)] = n % 2 == 0 ? -60 : 9;
            }

            x.HostSpan<float>()[^1] = 6;
            bool[] columns = new bool[ins];
            for (int i = 0; i < rows * ins; i++)
            {
                columns[i % ins] |= MathF.Abs(x.HostSpan<float>()[i]) >= 6;
            }

            MatMul.Forward(backend, x, packed, bias, y);
            using Tensor mixed = Quantized(x, v => MathF.Abs(v) >= 6, columns), dense = weight.Dequantize(), expected = Empty(y.Shape);
            for (int i = 0; i < rows * ins; i++)
            {
                mixed.HostSpan<float>()[i] = columns[i % ins] ? x.HostSpan<float>()[i] : mixed.HostSpan<float>()[i];
            }

            MatMul.Reference(mixed, dense, bias, expected);
            Close(y, expected, 5e-5f * MathF.Sqrt(ins) * 10, $"{rows} rows, [{outs}, {ins}]");
            if (packed.OutlierShare != (double)count / ins)
            {
                throw new InvalidOperationException($"share of outlier columns {packed.OutlierShare}, expected {(double)count / ins}");
            }
        }
    }

    private static void WithoutOutliers(IBackend backend)
    {
        using AffineWeight weight = PackingCheckData.Affine(70, 200, new Random(1), 8, 200, offsets: 's');
        using IPackedWeight plain = backend.Prepare(weight, ActivationType.Int8);
        using Tensor x = Random(new Shape(3, 200), 1, scale: 20), y = Empty(new Shape(3, 70)), expected = Empty(y.Shape);
        MatMul.Forward(backend, x, plain, null, expected);
        foreach (float threshold in new[] { 0f, 1000f })
        {
            using IPackedWeight packed = backend.PrepareInt8(weight, threshold);
            MatMul.Forward(backend, x, packed, null, y);
            Equal(y, expected, $"threshold {threshold}");
            if (packed.OutlierShare != 0)
            {
                throw new InvalidOperationException($"threshold {threshold}: share of outlier columns {packed.OutlierShare}, expected 0");
            }
        }
    }

    private static float[] Same(int count, float value)
    {
        float[] values = new float[count];
        Array.Fill(values, value);
        return values;
    }
}
