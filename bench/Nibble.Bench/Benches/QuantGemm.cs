using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Products of several rows with packed weights beside the dense F32 product of the same rounds: prefill, and small batches.</summary>
internal static class QuantGemm
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        foreach ((int rows, int outs, int ins) in new[] { (512, 1024, 1024), (512, 1024, 256), (2, 1024, 1024), (4, 1024, 1024), (8, 1024, 1024) })
        {
            foreach (ActivationType activations in new[] { ActivationType.F32, ActivationType.Int8 })
            {
                RunOne(backend, options.Rounds, report, (rows, outs, ins), activations);
            }
        }
    }

    private static void RunOne(CpuBackend backend, int rounds, BenchReport report, (int Rows, int Out, int In) size, ActivationType activations)
    {
        (int rows, int outs, int ins) = size;
        using Tensor x = Tensor.OnHost(new Shape(rows, ins), DType.F32), y = Tensor.OnHost(new Shape(rows, outs), DType.F32);
        WeightKind.Fill(x);
        List<IPackedWeight> packed = [.. WeightKind.All.Select(kind => kind.Pack(backend, outs, ins, activations))];
        CpuVariant variant = ((CpuPacking)packed[0]).Variant;
        CpuThreads threads = CpuThreads.Shared(backend.Threads);
        double[][] times = Clock.Rounds(
            rounds, [.. packed.Select(w => (Action)(() => MatMul.Forward(backend, x, w, null, y))), () => MachineLimits.RunBytePeak(variant, threads)]);
        double peak = MachineLimits.BytePeakOperations(variant, backend.Threads), operations = 2.0 * rows * outs * ins;
        for (int i = 0; i < packed.Count; i++)
        {
            report.Add(
                $"{rows}×{outs}×{ins} {WeightKind.All[i].Name}, {packed[i].Activations} x",
                [.. times[i].Select(t => operations / t * 1e-9)],
                "GOP/s",
                [.. times[0].Zip(times[i], (dense, t) => dense / t)],
                "the dense F32 product");
            if (packed[i].Activations == ActivationType.Int8)
            {
                report.Add(
                    "  the same",
                    [.. times[i].Select(t => operations / t * 1e-9)],
                    "GOP/s",
                    [.. times[i].Zip(times[^1], (t, p) => operations / t / (peak / p))],
                    "the int8 multiply-add peak");
            }

            packed[i].Dispose();
        }
    }
}
