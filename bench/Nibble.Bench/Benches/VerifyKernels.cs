using Nibble.Backends.Cpu;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Bench.Benches;

/// <summary>The tests' kernel checks as a program of its own, for machines with other instruction sets.</summary>
internal static class VerifyKernels
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach (CpuVariant variant in CpuVariant.All.Where(v => options.Kernels is null || v.Name == options.Kernels))
        {
            string how = variant.IsSupported ? variant.Name : variant.Name + " (in software)";
            using CpuBackend backend = new(variant, CpuThreads.Choose(options.Threads));
            foreach (KernelCheck check in KernelChecks.All)
            {
                report.Check($"{how}: {check.Name}", Failure(() => check.Run(backend)));
            }

            using CpuBackend half = new(variant, CpuThreads.Choose(options.Threads), DType.BF16);
            foreach (KernelCheck check in BFloat16Checks.All)
            {
                report.Check($"{how}: {check.Name}", Failure(() => check.Run(half)));
            }

            report.Check($"{how}: order of BF16 sums, {variant.BFloat16.Name}", Failure(() => BFloat16Checks.Order(variant.BFloat16, variant.PanelWidth)));
        }
    }

    private static string? Failure(Action check)
    {
        try
        {
            check();
            return null;
        }
        catch (Exception error) when (error is InvalidOperationException or ArgumentException or NotSupportedException)
        {
            return error.Message;
        }
    }
}
