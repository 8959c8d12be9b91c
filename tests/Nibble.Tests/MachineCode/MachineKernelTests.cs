using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.MachineCode;

public unsafe class MachineKernelTests
{
    public static TheoryData<string> Variants => [.. CpuVariant.All.Where(variant => variant.HasMachineCode).Select(variant => variant.Name)];

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void MachineCodeGivesTheBitsOfTheCompiledKernels(string name)
    {
        CpuVariant variant = Supported(name), compiled = CpuVariant.All.Single(v => v.Name == "avx512");
        foreach (PackingKind kind in PackingCheckData.All)
        {
            foreach ((int outs, int ins) in new[] { (1, 4), (31, 36), (64, 128), (70, 515), (97, 1100) })
            {
                if (kind.Name.Contains("strided", StringComparison.Ordinal))
                {
                    continue;
                }

                using QuantizedWeight weight = kind.Make(outs, ins, new Random(outs));
                using Tensor expected = Product(compiled, weight, 70, 2), actual = Product(variant, weight, 70, 2), alone = Product(variant, weight, 70, 1);
                Equal(actual, expected, $"{kind} [{outs}, {ins}]");
                Equal(alone, expected, $"{kind} [{outs}, {ins}], 1 thread");
            }
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void EveryNumberOfRowsGivesTheSameBits(string name)
    {
        CpuVariant variant = Supported(name), compiled = CpuVariant.All.Single(v => v.Name == "avx512");
        using QuantizedWeight weight = PackingCheckData.Affine(100, 200, new Random(1), 4, 64);
        using Tensor all = Product(compiled, weight, 300, 2);
        foreach (int rows in Enumerable.Range(1, 70).Append(255).Append(257).Append(300))
        {
            using Tensor some = Product(variant, weight, rows, 2);
            Equal(some, all.Slice(0, rows), $"{rows} rows");
        }
    }

    /// <summary>One row takes several panels at once: all kinds of codes and offsets, panels left over, groups beyond one run of them.</summary>
    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void OneRowGivesTheSameBits(string name)
    {
        CpuVariant variant = Supported(name), compiled = CpuVariant.All.Single(v => v.Name == "avx512");
        foreach (PackingKind kind in PackingCheckData.All)
        {
            foreach ((int outs, int ins) in new[] { (33, 64), (64, 32), (129, 96), (257, 2112), (300, 515) })
            {
                if (kind.Name.Contains("strided", StringComparison.Ordinal))
                {
                    continue;
                }

                using QuantizedWeight weight = kind.Make(outs, ins, new Random(outs));
                using Tensor expected = Product(compiled, weight, 1, 2), actual = Product(variant, weight, 1, 2), alone = Product(variant, weight, 1, 1);
                Equal(actual, expected, $"{kind} [{outs}, {ins}]");
                Equal(alone, expected, $"{kind} [{outs}, {ins}], 1 thread");
            }
        }
    }

    /// <summary>Few rows of x and F16 weights, subnormal ones among them; with infinities it is another C# kernel that they are compared with.</summary>
    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void HalvesGiveTheSameBits(string name)
    {
        CpuVariant variant = Supported(name), compiled = CpuVariant.All.Single(v => v.Name == "avx512");
        foreach ((int outs, int ins) in new[] { (1, 1), (33, 64), (128, 1), (129, 257), (300, 520), (1100, 30) })
        {
            foreach (bool isFinite in new[] { true, false })
            {
                using Tensor floats = Random(new Shape(outs, ins), outs);
                Span<float> values = floats.HostSpan<float>();
                for (int i = 0; i < values.Length; i += 3)
                {
                    values[i] *= i % 2 == 0 ? 1e-5f : 1e-7f;
                }

                values[^1] = isFinite ? -65504 : float.PositiveInfinity;
                using Tensor weight = floats.To(DType.F16);
                for (int rows = 1; rows <= 7; rows++)
                {
                    using Tensor expected = Dense(compiled, weight, rows), actual = Dense(variant, weight, rows);
                    Equal(actual, expected, $"[{outs}, {ins}], {rows} rows, finite: {isFinite}");
                }
            }
        }
    }

    /// <summary>Without <see cref="SignalStack"/> the process dies here.</summary>
    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void FaultsAndCollectionsOnThreadsThatRanMachineCodeAreHandled(string name)
    {
        CpuVariant variant = Supported(name);
        using QuantizedWeight weight = PackingCheckData.Affine(100, 200, new Random(1), 4, 64);
        using Tensor expected = Product(variant, weight, 40, 1);
        int handled = 0;
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(_ => new Thread(() =>
        {
            for (int i = 0; i < 20; i++)
            {
                using Tensor y = Product(variant, weight, 40, 1);
                GC.Collect(0);
                try
                {
                    Length(null!);
                }
                catch (NullReferenceException) when (y.HostSpan<float>().SequenceEqual(expected.HostSpan<float>()))
                {
                    Interlocked.Increment(ref handled);
                }
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.Equal(80, handled);
    }

    [SkippableFact]
    public void CodeIsExecutableAndNotWritable()
    {
        Skip.If(System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture != System.Runtime.InteropServices.Architecture.X64, "x86-64 code");
        Skip.IfNot(OperatingSystem.IsLinux(), "reads /proc/self/maps");
        Assembler code = new();
        code.Mov(Gpr.Rax, Gpr.Rdi);
        code.Add(Gpr.Rax, 42);
        code.Ret();
        using ExecutableMemory? memory = ExecutableMemory.TryCreate(code.ToCode(), out string? why);
        Skip.If(memory is null, why);
        Assert.Equal(1042, ((delegate* unmanaged<nint, nint>)memory.Address)(1000));

        // The system shows neighbours of the same kind as one.
        string line = File.ReadLines("/proc/self/maps").Single(text => Contains(text, memory.Address));
        Assert.Contains(" r-xp ", line, StringComparison.Ordinal);
    }

    private static bool Contains(string mapping, nint address)
    {
        nint[] ends = [.. mapping[..mapping.IndexOf(' ', StringComparison.Ordinal)].Split('-').Select(text => (nint)ulong.Parse(text, System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture))];
        return ends[0] <= address && address < ends[1];
    }

    [Fact]
    public void WhereMachineCodeCannotRunThereIsAReason()
    {
        MachineCodeSupport support = MachineCodeSupport.Current;
        Assert.True(support.WhyNoVnni is null or { Length: > 10 });
        Assert.True(support.WhyNoTiles is null or { Length: > 10 });
        Assert.Equal(support.WhyNoVnni is null, CpuVariant.All.Single(v => v.Name == "avx512-vnni").IsSupported);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static int Length(string text) => text.Length;

    private static CpuVariant Supported(string name)
    {
        CpuVariant variant = CpuVariant.All.Single(v => v.Name == name);
        Skip.IfNot(variant.IsSupported, MachineCodeSupport.Current.WhyNoVnni ?? MachineCodeSupport.Current.WhyNoTiles);
        return variant;
    }

    private static Tensor Dense(CpuVariant variant, Tensor weight, int rows)
    {
        using CpuBackend backend = new(variant, 2);
        using IPackedWeight packed = backend.Prepare(weight);
        using Tensor x = Random(new Shape(rows, weight.Shape[1]), 3, skip: 1), bias = Random(new Shape(weight.Shape[0]), 4);
        Tensor y = Empty(new Shape(rows, weight.Shape[0]), skip: 1);
        MatMul.Forward(backend, x, packed, rows % 2 == 0 ? null : bias, y);
        return y;
    }

    private static Tensor Product(CpuVariant variant, QuantizedWeight weight, int rows, int threads)
    {
        using CpuBackend backend = new(variant, threads);
        using IPackedWeight packed = backend.Prepare(weight, ActivationType.Int8);
        using Tensor x = Random(new Shape(300, weight.In), 3, skip: 1), bias = Random(new Shape(weight.Out), 4);
        Tensor y = Empty(new Shape(rows, weight.Out), skip: 1);
        MatMul.Forward(backend, x.Slice(0, rows), packed, bias, y);
        return y;
    }
}
