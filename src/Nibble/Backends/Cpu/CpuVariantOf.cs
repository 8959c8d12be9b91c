using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.Gradients;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Backends.Cpu.Packings;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu;

/// <summary>The kernels compiled for one kind of vector.</summary>
internal sealed class CpuVariant<S, V>(string name, CpuIsa isa, Func<string?> whyNot, Func<ByteKernels>? machineKernels = null) : CpuVariant
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public override string Name => name;

    public override CpuIsa Isa => isa;

    public override string? WhyNot => whyNot();

    protected override Func<ByteKernels>? MachineKernels => machineKernels;

    public override int PanelWidth => Gemm<S, V>.PanelWidth;

    public override PanelKernels Panels { get; } = new PanelKernels<S, V>();

    public override BFloat16Kernels CompiledBFloat16 { get; } = new CompiledBFloat16Kernels<S, V>();

    public override IKernels CreateKernels(CpuThreads threads, BFloat16Kernels? half) => new CpuKernels<S, V>(threads, half);

    public override IGradientKernels CreateGradients(CpuThreads threads, BFloat16Kernels? half) => new CpuGradients<S, V>(threads, half);

    public override CpuPacking PackDense(Tensor weight, CpuThreads threads)
    {
        if (weight.Shape.Rank != 2 || !weight.DType.IsFloat() || !weight.IsOnHost)
        {
            Throw.Argument("prepare", $"a dense weight must be an F32, F16 or BF16 matrix on the host, not {weight.DType} {weight.Shape}");
        }

        return weight.DType switch
        {
            DType.F32 => new DensePacking<S, V, FloatLoader>(weight, this, threads),
            DType.F16 when AllFinite(weight) => new DensePacking<S, V, FiniteHalfLoader>(weight, this, threads),
            DType.F16 => new DensePacking<S, V, HalfLoader>(weight, this, threads),
            _ => new DensePacking<S, V, BFloat16Loader>(weight, this, threads),
        };
    }

    public override CpuPacking OpenDense(PackReader reader)
    {
        DType dtype = (DType)reader.Int();
        return (dtype, reader.Flag()) switch
        {
            (DType.F32, _) => new DensePacking<S, V, FloatLoader>(reader, dtype, this),
            (DType.F16, true) => new DensePacking<S, V, FiniteHalfLoader>(reader, dtype, this),
            (DType.F16, false) => new DensePacking<S, V, HalfLoader>(reader, dtype, this),
            (DType.BF16, _) => new DensePacking<S, V, BFloat16Loader>(reader, dtype, this),
            _ => throw new InvalidDataException($"no dense packing holds {dtype}"),
        };
    }

    public override void Gemm(CpuPacking weights, in CpuMatMul call) => Gemm<S, V>.Multiply(weights, call);

    public override unsafe void Gemm(CpuPacking weights, in CpuMatMul call, BFloat16Kernels half)
    {
        BFloat16Product<S, V, TransposedPairs<S, V>> job = new()
        {
            A = call.Input, RowStride = weights.In, StepStride = 1, Right = new(weights, call.First), Rows = call.Rows, Columns = call.Count, Depth = weights.In,
            C = new(call.Output, call.YStride, PanelWidth), Bias = call.FirstBias, Kernels = half,
        };
        job.Run(call.Threads);
    }

    public override unsafe void Multiply(CpuThreads threads, in StridedProduct product)
    {
        ProductJob<S, V, MatrixPanels<S, V>> job = new()
        {
            A = product.A, RowStride = product.ARow, StepStride = product.AStep,
            Right = new(product.B, product.BRow, 1, product.Columns),
            Rows = product.Rows, Columns = product.Columns, Depth = product.Depth,
            C = new(product.C, product.CRow, PanelWidth), Overwrite = product.Overwrite, UpperOnly = product.UpperOnly,
        };
        job.Run(threads);
    }

    private static unsafe bool AllFinite(Tensor half)
    {
        const ushort Exponent = 0x7c00;
        ushort* values = (ushort*)half.HostPointer;
        nint i = 0;
        Vector128<ushort> special = default, mask = Vector128.Create(Exponent);
        for (; i <= half.Shape.Count - 8; i += 8)
        {
            special |= Vector128.Equals(Vector128.Load(values + i) & mask, mask);
        }

        bool finite = special == default;
        for (; i < half.Shape.Count; i++)
        {
            finite &= (values[i] & Exponent) != Exponent;
        }

        return finite;
    }
}
