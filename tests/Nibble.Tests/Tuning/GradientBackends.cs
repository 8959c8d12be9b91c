using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cuda;
using Nibble.Tests.Cuda;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Tuning;

/// <summary>The backends whose gradients are checked: every variant of the CPU's kernels, and CUDA's, run by this processor.</summary>
internal static class GradientBackends
{
    private const string Emulated = "cuda, emulated", Reversed = "cuda, emulated in reverse";

    public static TheoryData<string> Names => [.. CpuVariant.All.Select(variant => variant.Name), Emulated, Reversed];

    public static IBackend Open(string name)
    {
        if (name is Emulated or Reversed)
        {
            Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
            return new MirrorCheckBackend(new CudaBackend(new EmulatedDevice(reverse: name == Reversed)));
        }

        return new CpuBackend(CpuVariant.All.First(item => item.Name == name), threads: 2);
    }
}
