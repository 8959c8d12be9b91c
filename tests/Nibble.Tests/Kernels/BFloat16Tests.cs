using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Products in BF16: rounding, the order of sums of every kernel, and the results of all forms against double precision.</summary>
public unsafe class BFloat16Tests
{
    // rows, out, in: on both sides of the fewest rows (32), tiles (16, 32), panels (2 to 32), steps (32), blocks of steps (512) and parts (256).
    private static readonly (int Rows, int Out, int In)[] Shapes =
        [(31, 20, 40), (32, 1, 1), (33, 31, 33), (40, 64, 32), (64, 70, 97), (47, 33, 1030), (300, 130, 65), (560, 17, 20)];

    public static TheoryData<string> Variants => [.. CpuVariant.All.Select(variant => variant.Name)];

    [Fact]
    public void NumbersAreRoundedAsTensorsAreAndTinyOnesToZero()
    {
        List<float> numbers = [0, -0f, 1, -1, 1.00390625f, 1.01171875f, float.MaxValue, float.PositiveInfinity, float.NegativeInfinity, float.NaN, -float.NaN, 1.1754944e-38f, 1.1754942e-38f, -1e-40f, float.Epsilon];
        Random random = new(1);
        while (numbers.Count < 512)
        {
            numbers.Add(BitConverter.Int32BitsToSingle(random.Next() | (random.Next(2) << 31)));
        }

        fixed (float* source = numbers.ToArray())
        {
            ushort* rounded = stackalloc ushort[512];
            uint* lines = stackalloc uint[512];
            BFloat16Layout.RoundRun(source, 512, rounded);
            BFloat16Layout.RoundPairs(source, 16, 32, lines);
            for (int i = 0; i < 512; i++)
            {
                float expected = float.IsNaN(numbers[i]) ? float.NaN : MathF.Abs(numbers[i]) < 1.17549435e-38f ? MathF.CopySign(0, numbers[i]) : Widened(TensorConvert.F32ToBF16(numbers[i]));
                Assert.Equal(expected, Widened(rounded[i]));
                Assert.Equal(expected, Widened((ushort)(BFloat16Layout.Round(numbers[i]) >> 16)));
                uint pair = lines[(i / 64 * 32) + (i % 32)];
                Assert.Equal(expected, Widened((ushort)(i % 64 < 32 ? pair : pair >> 16)));
            }
        }
    }

    /// <summary>The defined order, element by element: what the processor's tiles do too.</summary>
    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ATileAddsInTheDefinedOrder(string name)
    {
        CpuVariant variant = Supported(name);
        foreach (BFloat16Kernels kernels in new[] { variant.BFloat16, variant.CompiledBFloat16 })
        {
            CheckOrder(kernels, variant.PanelWidth, kernels is VdpBFloat16Kernels ? ChainOrder : TileOrder);
        }
    }

    [SkippableFact]
    public void VectorsAddInTheOrderOfVdpbf16ps()
    {
        Skip.IfNot(MachineCodeSupport.HasVdpBFloat16, MachineCodeSupport.Current.WhyNoVnni ?? "the processor has no AVX512-BF16");
        CheckOrder(new VdpBFloat16Kernels(), 32, ChainOrder);
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ProductsAreThoseOfRoundedNumbers(string name)
    {
        using CpuBackend backend = new(Supported(name), 2, DType.BF16);
        foreach ((int rows, int outs, int ins) in Shapes)
        {
            CheckForms(backend, rows, outs, ins, DType.F32);
            CheckForms(backend, rows, outs, ins, DType.BF16);
            CheckForms(backend, rows, outs, ins, DType.F16);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void EveryVariantAndNumberOfThreadsHasTheSameBits(string name)
    {
        CpuVariant variant = Supported(name);
        Skip.If(variant.BFloat16 is VdpBFloat16Kernels, "vdpbf16ps has an order of its own");
        using CpuBackend scalar = new(CpuVariant.All.Single(v => v.Name == "scalar"), 1, DType.BF16);
        foreach ((int rows, int outs, int ins) in Shapes.Where(shape => shape.Rows >= BFloat16Kernels.FewestRows))
        {
            List<float[]> expected = Forms(scalar, rows, outs, ins);
            foreach (int threads in new[] { 1, 2, 3 })
            {
                using CpuBackend backend = new(variant, threads, DType.BF16);
                List<float[]> actual = Forms(backend, rows, outs, ins);
                for (int i = 0; i < expected.Count; i++)
                {
                    Assert.True(expected[i].AsSpan().SequenceEqual(actual[i]), $"form {i}, {rows} × {outs} × {ins}, {threads} threads");
                }
            }
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void QuantizedWeightsGiveTheProductOfTheirRoundedValues(string name)
    {
        using CpuBackend backend = new(Supported(name), 2, DType.BF16);
        foreach (PackingKind kind in PackingCheckData.All)
        {
            using QuantizedWeight weight = kind.Make(70, 128, new Random(3));
            using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
            using Tensor values = Tensor.OnHost(new Shape(70, 128), DType.F32), x = Random(new Shape(40, 128), 4, skip: 1), y = Empty(new Shape(40, 70)), expected = Empty(new Shape(40, 70));
            for (int row = 0; row < 70; row++)
            {
                weight.DequantizeRow(row, values.HostSpan<float>().Slice(row * 128, 128));
            }

            using IPackedWeight dense = backend.Prepare(values);
            backend.Kernels.MatMul(x, packed, null, y);
            backend.Kernels.MatMul(x, dense, null, expected);
            Equal(y, expected, kind.Name);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void NaNAndInfinityStayWhereTheyBelong(string name)
    {
        using CpuBackend backend = new(Supported(name), 2, DType.BF16);
        using Tensor x = Random(new Shape(40, 50), 1), w = Random(new Shape(33, 50), 2), y = Empty(new Shape(40, 33));
        x.HostSpan<float>()[(7 * 50) + 49] = float.NaN;
        w.HostSpan<float>()[(32 * 50) + 3] = float.PositiveInfinity;
        using IPackedWeight packed = backend.Prepare(w);
        backend.Kernels.MatMul(x, packed, null, y);
        for (int row = 0; row < 40; row++)
        {
            for (int feature = 0; feature < 33; feature++)
            {
                float value = y.HostSpan<float>()[(row * 33) + feature];
                Assert.True(row == 7 ? float.IsNaN(value) : feature == 32 ? float.IsInfinity(value) : float.IsFinite(value), $"row {row}, feature {feature}: {value}");
            }
        }
    }

    [Fact]
    public void WhereThereAreNoInstructionsThereIsAReason()
    {
        foreach (CpuVariant variant in CpuVariant.All)
        {
            Assert.True(variant.WhyNoBFloat16() is null or { Length: > 10 });
            Assert.True(variant.BFloat16.Name == "f32" == (variant.WhyNoBFloat16() is not null || !variant.IsSupported));
        }
    }

    private static CpuVariant Supported(string name)
    {
        CpuVariant variant = CpuVariant.All.Single(v => v.Name == name);
        Skip.If(variant.HasMachineCode && !variant.IsSupported, variant.WhyNot);
        return variant;
    }

    private static float Widened(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    private static float TileOrder(float start, Func<int, float> a, Func<int, float> b, int steps)
    {
        for (int step = 0; step < steps; step++)
        {
            float even = 0, odd = 0;
            for (int k = 32 * step; k < 32 * (step + 1); k += 2)
            {
                even = MathF.FusedMultiplyAdd(a(k), b(k), even);
                odd = MathF.FusedMultiplyAdd(a(k + 1), b(k + 1), odd);
            }

            start += even + odd;
        }

        return start;
    }

    private static float ChainOrder(float start, Func<int, float> a, Func<int, float> b, int steps)
    {
        for (int k = 0; k < 32 * steps; k += 2)
        {
            start = MathF.FusedMultiplyAdd(a(k), b(k), MathF.FusedMultiplyAdd(a(k + 1), b(k + 1), start));
        }

        return start;
    }

    private static void CheckOrder(BFloat16Kernels kernels, int width, Func<float, Func<int, float>, Func<int, float>, int, float> order)
    {
        const int MostRows = 70, Steps = 3;
        Random random = new(5);
        using Tensor a = Tensor.OnHost(new Shape(5 * 16 * Steps, 32), DType.BF16), b = Tensor.OnHost(new Shape(Steps * 16, width), DType.I32);
        using Tensor start = Random(new Shape(MostRows, width), 6, skip: 3), c = Empty(new Shape(MostRows, width), skip: 1);
        foreach (ref ushort value in a.HostSpan<ushort>())
        {
            value = Number(random);
        }

        foreach (ref uint pair in b.HostSpan<uint>())
        {
            pair = (uint)(Number(random) | Number(random) << 16);
        }

        foreach (int rows in Enumerable.Range(1, 34).Append(63).Append(64).Append(MostRows))
        {
            c.HostSpan<float>().Fill(77);
            kernels.Run(new BFloat16Tile
            {
                A = (ushort*)a.HostPointer, TileStride = Steps * 512, B = (uint*)b.HostPointer, Steps = Steps, Rows = rows,
                Start = (float*)start.HostPointer, StartStride = width, C = (float*)c.HostPointer, CStride = width,
            });
            for (int i = 0; i < MostRows * width; i++)
            {
                (int row, int column) = (i / width, i % width);
                float expected = row >= rows ? 77 : order(
                    start.HostSpan<float>()[i],
                    k => Widened(a.HostSpan<ushort>()[(row / 16 * Steps * 512) + (k / 32 * 512) + (row % 16 * 32) + (k % 32)]),
                    k => Widened((ushort)(b.HostSpan<uint>()[(k / 2 * width) + column] >> (k % 2 * 16))),
                    Steps);
                Assert.True(expected.Equals(c.HostSpan<float>()[i]), $"{kernels.Name}, {rows} rows, row {row}, column {column}: {c.HostSpan<float>()[i]:G9} for {expected:G9}");
            }
        }
    }

    // Of magnitudes from 2^-8 to 2^7, so that every order rounds otherwise.
    private static ushort Number(Random random) => (ushort)((random.Next(2) << 15) | ((119 + random.Next(16)) << 7) | random.Next(128));

    /// <summary>All forms of the product: forward with bias, added, gradient of the input written and added, gradient of the weight.</summary>
    private static List<float[]> Forms(CpuBackend backend, int rows, int outs, int ins, DType dtype = DType.F32)
    {
        using Tensor x = Random(new Shape(rows, ins), 1, skip: 1), w = Random(new Shape(outs, ins), 2), dy = Random(new Shape(rows, outs), 3, skip: 1), bias = Random(new Shape(outs), 4);
        using Tensor y = Empty(new Shape(rows, outs), skip: 1), added = Random(new Shape(rows, outs), 5), dx = Empty(new Shape(rows, ins)), more = Random(new Shape(rows, ins), 6, skip: 1);
        using Tensor stored = Convert(w, dtype), zeros = Tensor.OnHost(new Shape(outs, ins), DType.F32), dw = Tensor.OnHost(new Shape(outs, ins), DType.F32);
        using IPackedWeight packed = backend.Prepare(stored), gradient = backend.Prepare(zeros);
        backend.Kernels.MatMul(x, packed, bias, y);
        backend.Kernels.MatMulAdd(x, packed, added);
        backend.Gradients.MatMulInputInto(dy, packed, dx);
        backend.Gradients.MatMulInput(dy, packed, more);
        backend.Gradients.MatMulWeight(dy, x, gradient, backend.Gradients.Values(gradient)!);
        backend.Gradients.MatMulWeight(dy, x, gradient, backend.Gradients.Values(gradient)!);
        backend.Gradients.ToRows(gradient, backend.Gradients.Values(gradient)!, dw);
        return [.. new[] { y, added, dx, more, dw }.Select(tensor => tensor.HostSpan<float>().ToArray())];
    }

    private static void CheckForms(CpuBackend backend, int rows, int outs, int ins, DType dtype)
    {
        List<float[]> forms = Forms(backend, rows, outs, ins, dtype);
        using Tensor stored = Convert(Random(new Shape(outs, ins), 2), dtype), values = Widen(stored);
        bool rounds = rows >= BFloat16Kernels.FewestRows;
        float[] x = Rounded(Random(new Shape(rows, ins), 1, skip: 1), rounds), w = Rounded(values, rounds), dy = Rounded(Random(new Shape(rows, outs), 3, skip: 1), rounds);
        float[] bias = Rounded(Random(new Shape(outs), 4), false), added = Rounded(Random(new Shape(rows, outs), 5), false), more = Rounded(Random(new Shape(rows, ins), 6, skip: 1), false);
        string what = $"{dtype}, {rows} × {outs} × {ins}";
        Within(forms[0], outs, ins, (row, column) => bias[column], (row, column, k) => x[(row * ins) + k] * (double)w[(column * ins) + k], "y, " + what);
        Within(forms[1], outs, ins, (row, column) => added[(row * outs) + column], (row, column, k) => x[(row * ins) + k] * (double)w[(column * ins) + k], "y +=, " + what);
        Within(forms[2], ins, outs, (row, column) => 0, (row, column, k) => dy[(row * outs) + k] * (double)w[(k * ins) + column], "dx, " + what);
        Within(forms[3], ins, outs, (row, column) => more[(row * ins) + column], (row, column, k) => dy[(row * outs) + k] * (double)w[(k * ins) + column], "dx +=, " + what);
        Within(forms[4], ins, rows, (row, column) => 0, (row, column, k) => 2 * dy[(k * outs) + row] * (double)x[(k * ins) + column], "dW, " + what);
    }

    private static float[] Rounded(Tensor tensor, bool rounds)
    {
        using (tensor)
        {
            return [.. tensor.HostSpan<float>().ToArray().Select(value => rounds ? Widened(TensorConvert.F32ToBF16(value)) : value)];
        }
    }

    // A sum of n products is off by at most n + 1 roundings of its largest part: the bound that docs/kernels.md states.
    private static void Within(float[] actual, int columns, int depth, Func<int, int, double> start, Func<int, int, int, double> product, string what)
    {
        for (int i = 0; i < actual.Length; i++)
        {
            (int row, int column) = (i / columns, i % columns);
            double sum = start(row, column), size = Math.Abs(sum);
            for (int k = 0; k < depth; k++)
            {
                double term = product(row, column, k);
                sum += term;
                size += Math.Abs(term);
            }

            double bound = (depth + 2) * size / (1 << 24);
            Assert.True(Math.Abs(actual[i] - sum) <= bound, $"{what}, row {row}, column {column}: {actual[i]:G9} for {sum:G9}, bound {bound:G3}");
        }
    }
}
