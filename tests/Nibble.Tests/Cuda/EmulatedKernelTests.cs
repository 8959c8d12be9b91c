using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Cuda;

/// <summary>Every check of kernels against the references, with the CUDA kernels compiled for this processor.</summary>
public class EmulatedKernelTests
{
    // Packings differ in numbers, not in code, beyond these.
    private const int PackingStep = 3;

    public static TheoryData<string, bool> Cases
    {
        get
        {
            TheoryData<string, bool> cases = [];
            int packing = 0;
            foreach (KernelCheck check in KernelChecks.All)
            {
                bool packed = check.Name.StartsWith("packing affine", StringComparison.Ordinal) || check.Name.StartsWith("int8 activations affine", StringComparison.Ordinal);
                if (!packed)
                {
                    cases.Add(check.Name, false);
                    cases.Add(check.Name, true);
                }
                else if (packing++ % PackingStep == 0)
                {
                    cases.Add(check.Name, packing % 2 == 0);
                }
            }

            return cases;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public void EveryKernelAgreesWithTheReference(string check, bool reverse)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using MirrorCheckBackend backend = new(new CudaBackend(new EmulatedDevice(reverse)));
        KernelChecks.All.First(c => c.Name == check).Run(backend);
    }

    public static TheoryData<string, bool> TensorCases
    {
        get
        {
            TheoryData<string, bool> cases = [];
            int number = 0;
            foreach (KernelCheck check in TensorChecks.All)
            {
                cases.Add(check.Name, number++ % 2 == 0);
            }

            return cases;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(TensorCases))]
    public void ProductsInBF16AgreeWithTheReference(string check, bool reverse)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using MirrorCheckBackend backend = new(new CudaBackend(new EmulatedDevice(reverse), Nibble.Tensors.DType.BF16));
        TensorChecks.All.First(c => c.Name == check).Run(backend);
    }

    public static TheoryData<string, bool> FusedCases
    {
        get
        {
            TheoryData<string, bool> cases = [];
            foreach (KernelCheck check in FusedChecks.All)
            {
                cases.Add(check.Name, false);
                cases.Add(check.Name, true);
            }

            return cases;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(FusedCases))]
    public void OneLaunchIsWhatManyAre(string check, bool reverse)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice(reverse), Nibble.Tensors.DType.BF16);
        FusedChecks.All.First(c => c.Name == check).Run(backend);
    }

    public static TheoryData<string, bool> QuantizerCases
    {
        get
        {
            TheoryData<string, bool> cases = [];
            int number = 0;
            foreach (KernelCheck check in QuantizerChecks.All)
            {
                cases.Add(check.Name, number++ % 2 == 0);
            }

            return cases;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(QuantizerCases))]
    public void MethodsGiveTheProcessorsCodes(string check, bool reverse)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice(reverse));
        QuantizerChecks.All.First(c => c.Name == check).Run(backend);
        Assert.Equal(0, backend.Memory.Allocator.UsedBytes);
    }

    [SkippableFact]
    public void ShortKernelsGiveTheirMemoryBack()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice());
        foreach (KernelCheck check in RowChecks.All)
        {
            check.Run(new MirrorCheckBackend(backend));
        }

        Assert.Equal(0, backend.Memory.Allocator.UsedBytes);
        Assert.True(backend.PeakBytes > 0);
    }
}
