using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Backends.Cpu.Packings;
using Nibble.IO;

namespace Nibble.Backends.Cpu;

/// <summary>Which instructions a variant of the kernels may use.</summary>
internal enum CpuIsa
{
    /// <summary>One float at a time: runs everywhere, and is easy to read.</summary>
    Scalar,

    /// <summary>128-bit vectors: SSE, or NEON on ARM.</summary>
    Vector128,

    /// <summary>256-bit vectors with fused multiply-add.</summary>
    Avx2,

    /// <summary>512-bit vectors.</summary>
    Avx512,
}

/// <summary>One entry of the ordered list of kernel variants. The first that the processor supports is used; NIBBLE_KERNELS forces one.</summary>
internal abstract class CpuVariant
{
    public const string EnvironmentVariable = "NIBBLE_KERNELS";

    /// <summary>All variants, fastest first.</summary>
    public static IReadOnlyList<CpuVariant> All { get; } =
    [
        new CpuVariant<Lanes512, Vector512<float>>("avx512-amx", CpuIsa.Avx512, () => MachineCodeSupport.Current.WhyNoTiles, () => new AmxKernels())
        {
            WhyNoBFloat16 = () => MachineCodeSupport.Current.WhyNoBFloat16Tiles, MachineBFloat16 = () => new AmxBFloat16Kernels(),
        },
        new CpuVariant<Lanes512, Vector512<float>>("avx512-vnni", CpuIsa.Avx512, () => MachineCodeSupport.Current.WhyNoVnni, () => new VnniKernels())
        {
            WhyNoBFloat16 = () => MachineCodeSupport.Current.WhyNoBFloat16, MachineBFloat16 = () => new VdpBFloat16Kernels(),
        },
        new CpuVariant<Lanes512, Vector512<float>>("avx512", CpuIsa.Avx512, () => Lacks(Vector512.IsHardwareAccelerated && Avx512BW.IsSupported)),
        new CpuVariant<Lanes256, Vector256<float>>("avx2", CpuIsa.Avx2, () => Lacks(Avx2.IsSupported && Fma.IsSupported)),
        new CpuVariant<Lanes128, Vector128<float>>("vector128", CpuIsa.Vector128, () => Lacks(Vector128.IsHardwareAccelerated)),
        new CpuVariant<Lanes1, float>("scalar", CpuIsa.Scalar, () => null),
    ];

    /// <summary>Those without machine code of their own: the others differ from avx512 in products of many rows alone.</summary>
    public static IEnumerable<CpuVariant> Compiled => All.Where(variant => !variant.HasMachineCode);

    private ByteKernels? _bytes;
    private ByteKernels? _batchBytes;
    private BFloat16Kernels? _bfloat16;

    public abstract string Name { get; }

    public abstract CpuIsa Isa { get; }

    /// <summary>Why this machine can't run it, or null (a variant of vectors then still computes, in software: tests use that).</summary>
    public abstract string? WhyNot { get; }

    /// <summary>True if this machine runs it.</summary>
    public bool IsSupported => WhyNot is null;

    /// <summary>True if products of many rows run code of our own (<see cref="MachineCode.MachineKernels"/>), with the bits of the C# kernels.</summary>
    public bool HasMachineCode => MachineKernels is not null;

    /// <summary>Makes them, or null.</summary>
    protected abstract Func<ByteKernels>? MachineKernels { get; }

    /// <summary>Output features of one panel: two vectors.</summary>
    public abstract int PanelWidth { get; }

    /// <summary>Kernels on packed codes.</summary>
    public abstract PanelKernels Panels { get; }

    /// <summary>Kernels on packed codes with int8 activations.</summary>
    public ByteKernels Bytes => _bytes ??= ByteKernels.For(Isa);

    /// <summary>The same for many rows, whose codes are decoded first.</summary>
    public ByteKernels BatchBytes => _batchBytes ??= MachineKernels is { } kernels && IsSupported ? kernels() : Bytes;

    /// <summary>One of the two.</summary>
    public ByteKernels Kernels(bool isDecoded) => isDecoded ? BatchBytes : Bytes;

    /// <summary>Why BF16 products have no instructions of their own here, null if they have. They are then multiplied as F32.</summary>
    public Func<string?> WhyNoBFloat16 { get; private init; } = () => "this variant has no machine code for BF16";

    /// <summary>Kernels of BF16 products.</summary>
    public BFloat16Kernels BFloat16 => _bfloat16 ??= MachineBFloat16 is { } kernels && IsSupported && WhyNoBFloat16() is null ? kernels() : CompiledBFloat16;

    /// <summary>The same in C#, for every machine.</summary>
    public abstract BFloat16Kernels CompiledBFloat16 { get; }

    private Func<BFloat16Kernels>? MachineBFloat16 { get; init; }

    /// <summary>The kernels; <paramref name="half"/> if products of many rows multiply in BF16.</summary>
    public abstract IKernels CreateKernels(CpuThreads threads, BFloat16Kernels? half);

    /// <summary>The backward kernels, likewise.</summary>
    public abstract IGradientKernels CreateGradients(CpuThreads threads, BFloat16Kernels? half);

    /// <summary>Packs a dense F32, F16 or BF16 matrix on the host.</summary>
    public abstract CpuPacking PackDense(Tensors.Tensor weight, CpuThreads threads);

    /// <summary>Reads a dense matrix that was saved.</summary>
    public abstract CpuPacking OpenDense(PackReader reader);

    /// <summary>
    /// The blocked product of F32 activations with any packing, through <see cref="CpuPacking.DecodePanel"/>; for many rows: each
    /// weight is decoded once per block of rows.
    /// </summary>
    public abstract void Gemm(CpuPacking weights, in CpuMatMul call);

    /// <summary>The same with both sides rounded to BF16.</summary>
    public abstract void Gemm(CpuPacking weights, in CpuMatMul call, BFloat16Kernels half);

    /// <summary>The blocked product of two F32 matrices in memory. Its result does not depend on the number of threads.</summary>
    public abstract void Multiply(CpuThreads threads, in StridedProduct product);

    /// <summary>The variant that NIBBLE_KERNELS names, or the fastest supported one.</summary>
    public static CpuVariant Choose() => Select(Environment.GetEnvironmentVariable(EnvironmentVariable));

    /// <summary>The variant named, or the fastest supported one for null.</summary>
    public static CpuVariant Select(string? name)
    {
        if (string.IsNullOrEmpty(name))
        {
            return All.First(v => v.IsSupported);
        }

        CpuVariant? variant = All.FirstOrDefault(v => v.Name == name);
        if (variant is not { IsSupported: true })
        {
            string supported = string.Join(", ", All.Where(v => v.IsSupported).Select(v => v.Name));
            Throw.Usage(
                $"kernels \"{name}\" can't be used",
                variant is null ? "there is no such variant of the CPU kernels" : variant.WhyNot,
                $"set {EnvironmentVariable} to one of: {supported} (or leave it empty)");
        }

        return variant;
    }

    private static string? Lacks(bool isThere) => isThere ? null : "this processor lacks the instructions";
}
