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
                float expected = float.IsNaN(numbers[i]) ? float.NaN : MathF.Abs(numbers[i]) < 1.17549435e-38f ? MathF.CopySign(0, numbers[i]) : BFloat16Checks.Widened(TensorConvert.F32ToBF16(numbers[i]));
                Assert.Equal(expected, BFloat16Checks.Widened(rounded[i]));
                Assert.Equal(expected, BFloat16Checks.Widened((ushort)(BFloat16Layout.Round(numbers[i]) >> 16)));
                uint pair = lines[(i / 64 * 32) + (i % 32)];
                Assert.Equal(expected, BFloat16Checks.Widened((ushort)(i % 64 < 32 ? pair : pair >> 16)));
            }
        }
    }

    /// <summary>The defined order, element by element: what the processor's tiles do too.</summary>
    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ATileAddsInTheDefinedOrder(string name)
    {
        CpuVariant variant = Supported(name);
        BFloat16Checks.Order(variant.BFloat16, variant.PanelWidth);
        BFloat16Checks.Order(variant.CompiledBFloat16, variant.PanelWidth);
    }

    [SkippableFact]
    public void VectorsAddInTheOrderOfVdpbf16ps()
    {
        Skip.IfNot(MachineCodeSupport.HasVdpBFloat16, MachineCodeSupport.Current.WhyNoVnni ?? "the processor has no AVX512-BF16");
        BFloat16Checks.Order(new VdpBFloat16Kernels(), 32);
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ProductsAreThoseOfRoundedNumbers(string name)
    {
        using CpuBackend backend = new(Supported(name), 2, DType.BF16);
        foreach (KernelCheck check in BFloat16Checks.All)
        {
            check.Run(backend);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void EveryVariantAndNumberOfThreadsHasTheSameBits(string name)
    {
        CpuVariant variant = Supported(name);
        Skip.If(variant.BFloat16 is VdpBFloat16Kernels, "vdpbf16ps has an order of its own");
        using CpuBackend scalar = new(CpuVariant.All.Single(v => v.Name == "scalar"), 1, DType.BF16);
        foreach ((int rows, int outs, int ins) in BFloat16Checks.Shapes.Where(shape => shape.Rows >= BFloat16Kernels.FewestRows))
        {
            List<float[]> expected = BFloat16Checks.Forms(scalar, rows, outs, ins);
            foreach (int threads in new[] { 1, 2, 3 })
            {
                using CpuBackend backend = new(variant, threads, DType.BF16);
                List<float[]> actual = BFloat16Checks.Forms(backend, rows, outs, ins);
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
}
