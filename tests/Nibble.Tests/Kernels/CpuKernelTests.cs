using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Ops;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

public class CpuKernelTests
{
    private static IReadOnlyList<KernelCheck> Checks => KernelChecks.All;

    public static TheoryData<string, string> Cases
    {
        get
        {
            TheoryData<string, string> cases = [];
            foreach (CpuVariant variant in CpuVariant.All)
            {
                // Machine code takes part in products with int8 activations only.
                foreach (KernelCheck check in variant.HasMachineCode ? Int8Checks.All : Checks)
                {
                    cases.Add(variant.Name, check.Name);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void EveryVariantAgreesWithTheReference(string variant, string check)
    {
        using CpuBackend backend = new(CpuVariant.All.First(v => v.Name == variant), threads: 2);
        Checks.First(c => c.Name == check).Run(backend);
    }

    [Theory]
    [InlineData("avx512")]
    [InlineData("avx2")]
    [InlineData("vector128")]
    [InlineData("scalar")]
    public void ResultsDoNotDependOnTheNumberOfThreads(string name)
    {
        CpuVariant variant = CpuVariant.All.First(v => v.Name == name);
        using CpuBackend one = new(variant, 1);
        using Tensor expected = RunAll(one);
        foreach (int threads in new[] { 2, 3, 16, 64 })
        {
            using CpuBackend many = new(variant, threads);
            using Tensor result = RunAll(many);
            Equal(result, expected, $"{threads} threads against 1");
        }
    }

    [Fact]
    public void AnUnknownVariantIsRefusedWithTheListOfThoseThatRunHere()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => new CpuBackend(new CpuOptions(Kernels: "mmx")));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("\"mmx\"", error.Message, StringComparison.Ordinal);
        Assert.Contains("scalar", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ZeroThreadsAreRefused() =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => new CpuBackend(new CpuOptions(Threads: 0))).Kind);

    [Fact]
    public void ShapesThatDoNotFitAreNamed()
    {
        using CpuBackend backend = new();
        using Tensor weight = Empty(new Shape(3, 5)), x = Empty(new Shape(2, 4)), y = Empty(new Shape(2, 3));
        using IPackedWeight packed = backend.Prepare(weight);
        ArgumentException error = Assert.Throws<ArgumentException>(() => MatMul.Forward(backend, x, packed, null, y));
        Assert.Contains("[2, 4]", error.Message, StringComparison.Ordinal);
        Assert.Contains("[3, 5]", error.Message, StringComparison.Ordinal);
    }

    // A little of everything, large enough for several parts each, gathered in one tensor.
    private static Tensor RunAll(CpuBackend backend)
    {
        Tensor all = Empty(new Shape(3 + 100, 320));
        using Tensor x = Random(new Shape(100, 320), 1), weight = Random(new Shape(320, 320), 2), norm = Random(new Shape(320), 3);
        using Tensor targets = Indices([.. Enumerable.Range(0, 320)]), cache = Random(new Shape(1, 4, 100, 80), 4);
        using IPackedWeight packed = backend.Prepare(weight);
        using Workspace workspace = new(backend);
        MatMul.Forward(backend, x.Slice(0, 1), packed, norm, all.Slice(0, 1));
        MatMul.Forward(backend, x, packed, norm, all.Slice(3, 100));
        LogLikelihood.Forward(backend, all.Slice(3, 100), packed, null, targets.Slice(0, 100), all.Slice(1, 1).Reshape(new Shape(320)).Slice(0, 100), null, workspace);
        using Tensor attended = Empty(new Shape(100, 4, 80));
        Attention.Forward(backend, new(all.Slice(3, 100).Reshape(attended.Shape), cache, cache, attended, 1, 100, 0, null, 0.1f, 0));
        Add.Forward(backend, attended.Reshape(x.Shape), all.Slice(3, 100));
        RmsNorm.Forward(backend, all.Slice(3, 100), norm, 1e-5f, all.Slice(3, 100));
        Gelu.Forward(backend, all.Slice(3, 100), GeluKind.Exact, all.Slice(3, 100));
        Softmax.Forward(backend, all.Slice(3, 100));
        return all;
    }
}
