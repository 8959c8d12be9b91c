using Nibble.Backends.Cpu;
using Nibble.Backends;
using Nibble.Benchmarks;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>One to four rows times a matrix that does not fit in a cache, as a share of raw reading the same bytes.</summary>
internal static class Gemv
{
    private const int Size = 8192;

    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        foreach (DType dtype in new[] { DType.F32, DType.BF16, DType.F16 })
        {
            using Tensor weight = Tensor.OnHost(new Shape(Size, Size), dtype);
            using IPackedWeight packed = backend.Prepare(weight);
            foreach (int rows in new[] { 1, 2, 4 })
            {
                RunOne(backend, options.Rounds, report, weight, packed, rows);
            }
        }

        RunSmall(backend, options.Rounds, report);
    }

    private static void RunOne(CpuBackend backend, int rounds, BenchReport report, Tensor weight, IPackedWeight packed, int rows)
    {
        CpuThreads threads = CpuThreads.Shared(backend.Threads);
        using Tensor x = Tensor.OnHost(new Shape(rows, Size), DType.F32), y = Tensor.OnHost(new Shape(rows, Size), DType.F32);
        using Tensor memory = RawRead.Memory(weight.ByteLength);
        double[][] times = Clock.Rounds(
            rounds, () => RawRead.Run(memory, threads), () => MatMul.Forward(backend, x, packed, null, y));
        report.Add(
            $"{rows}×{Size}×{Size} {weight.DType}, {backend.KernelVariant}",
            [.. times[1].Select(t => weight.ByteLength / t * 1e-9)],
            "GB/s",
            [.. times[1].Zip(times[0], (t, read) => read / t)],
            "raw reading");
    }

    // The matrices of a small model stay in the caches: here the cost of a call counts.
    private static void RunSmall(CpuBackend backend, int rounds, BenchReport report)
    {
        foreach ((int features, int depth) in new[] { (256, 256), (1024, 256), (768, 768), (8192, 256) })
        {
            foreach (DType dtype in new[] { DType.F32, DType.BF16 })
            {
                using Tensor weight = Tensor.OnHost(new Shape(features, depth), dtype);
                using IPackedWeight packed = backend.Prepare(weight);
                using Tensor x = Tensor.OnHost(new Shape(1, depth), DType.F32), y = Tensor.OnHost(new Shape(1, features), DType.F32);
                double[][] times = Clock.Rounds(rounds, () => MatMul.Forward(backend, x, packed, null, y));
                report.Add($"1×{features}×{depth} {dtype} in cache", [.. times[0].Select(t => t * 1e6)], "µs");
            }
        }
    }
}
