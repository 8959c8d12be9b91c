using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Raw read rate and multiply-add peak.</summary>
internal static class Roofline
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        CpuVariant variant = CpuVariant.Select(options.Kernels);
        using Tensor data = RawRead.Memory((nint)512 << 20);
        foreach (int count in new[] { 1, CpuThreads.Choose(options.Threads) }.Distinct())
        {
            CpuThreads threads = CpuThreads.Shared(count);
            Clock.ProcessorTimeThreads = options.ProcessorTime ? count : 0;
            double[][] times = Clock.Rounds(
                options.Rounds, () => MachineLimits.RunPeak(variant, threads), () => RawRead.Run(data, threads), () => MachineLimits.RunBytePeak(variant, threads));
            double operations = MachineLimits.PeakOperations(variant, count);
            report.Add($"multiply-add peak, {variant.Name}, {count} threads", [.. times[0].Select(t => operations / t * 1e-9)], "GFLOP/s");
            double byteOperations = MachineLimits.BytePeakOperations(variant, count);
            report.Add($"int8 multiply-add peak, {variant.Name}, {count} threads", [.. times[2].Select(t => byteOperations / t * 1e-9)], "GOP/s");
            report.Add($"raw read, {count} threads", [.. times[1].Select(t => data.ByteLength / t * 1e-9)], "GB/s");
        }
    }
}
