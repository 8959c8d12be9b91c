using Nibble.Backends.Cpu.Gradients;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Backends.Cpu.Packings;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu;

/// <summary>The kernels compiled for one kind of vector.</summary>
internal sealed class CpuVariant<S, V>(string name, CpuIsa isa, bool isSupported) : CpuVariant
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public override string Name => name;

    public override CpuIsa Isa => isa;

    public override bool IsSupported => isSupported;

    public override int PanelWidth => Gemm<S, V>.PanelWidth;

    public override PanelKernels Panels { get; } = new PanelKernels<S, V>();

    public override IKernels CreateKernels(CpuThreads threads) => new CpuKernels<S, V>(threads);

    public override IGradientKernels CreateGradients(CpuThreads threads) => new CpuGradients<S, V>(threads);

    public override CpuPacking PackDense(Tensor weight)
    {
        if (weight.Shape.Rank != 2 || !weight.DType.IsFloat() || !weight.IsOnHost)
        {
            Throw.Argument("prepare", $"a dense weight must be an F32, F16 or BF16 matrix on the host, not {weight.DType} {weight.Shape}");
        }

        return weight.DType switch
        {
            DType.F32 => new DensePacking<S, V, FloatLoader>(weight, this),
            DType.F16 => new DensePacking<S, V, HalfLoader>(weight, this),
            _ => new DensePacking<S, V, BFloat16Loader>(weight, this),
        };
    }

    public override void Gemm(CpuPacking weights, in CpuMatMul call) => Gemm<S, V>.Multiply(weights, call);
}
