using Nibble.Backends.Cpu;
using Nibble.Backends;
using Nibble.Benchmarks;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// One row of x times packed weights. Large: copies of an 8192 × 8192 matrix in turn, so that no cache holds them, beside raw
/// reading of as many bytes. Small: the shapes of the embedded model, from the caches, beside the dense F32 matrix.
/// </summary>
internal static class QuantGemv
{
    private const int Size = 8192;
    private const nint LeastBytes = 128 << 20;

    private static readonly (int Out, int In)[] SmallShapes = [(256, 256), (768, 256), (1024, 256), (256, 1024), (1024, 1024), (8192, 256)];

    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        foreach ((int outs, int ins) in SmallShapes)
        {
            RunSmall(backend, options.Rounds, report, outs, ins);
        }

        RunLarge(backend, options, report);
    }

    /// <summary>The large part alone.</summary>
    public static void RunLarge(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        RunLarge(backend, options, report);
    }

    private static void RunLarge(CpuBackend backend, BenchOptions options, BenchReport report)
    {
        double f32 = 0;
        foreach (WeightKind kind in WeightKind.All)
        {
            foreach (ActivationType activations in Activations(kind))
            {
                double rate = RunLarge(backend, options.Rounds, report, kind, activations, f32);
                f32 = kind.Make is null ? rate : f32;
            }
        }
    }

    private static ActivationType[] Activations(WeightKind kind) =>
        kind.Make is null ? [ActivationType.F32] : [ActivationType.F32, ActivationType.Int8];

    private static void RunSmall(CpuBackend backend, int rounds, BenchReport report, int outs, int ins)
    {
        using Tensor x = Tensor.OnHost(new Shape(1, ins), DType.F32), y = Tensor.OnHost(new Shape(1, outs), DType.F32);
        WeightKind.Fill(x);
        List<(string Name, IPackedWeight Packed)> cases = [];
        foreach (WeightKind kind in WeightKind.All)
        {
            foreach (ActivationType activations in Activations(kind))
            {
                IPackedWeight packed = kind.Pack(backend, outs, ins, activations);
                if (packed.Activations == activations)
                {
                    cases.Add(($"1×{outs}×{ins} {kind.Name}, {activations} x", packed));
                }
            }
        }

        double[][] times = Clock.Rounds(rounds, [.. cases.Select(c => (Action)(() => MatMul.Forward(backend, x, c.Packed, null, y)))]);
        for (int i = 0; i < cases.Count; i++)
        {
            double[] ratios = [.. times[0].Zip(times[i], (dense, t) => dense / t)];
            report.Add(cases[i].Name, [.. times[i].Select(t => t * 1e6)], "µs", ratios, "the speed of F32");
            cases[i].Packed.Dispose();
        }
    }

    private static double RunLarge(
        CpuBackend backend, int rounds, BenchReport report, WeightKind kind, ActivationType activations, double f32)
    {
        List<IPackedWeight> copies = [kind.Pack(backend, Size, Size, activations)];
        if (copies[0].Activations != activations)
        {
            copies[0].Dispose();
            return 0;
        }

        while (copies.Count * copies[0].ByteLength < LeastBytes)
        {
            copies.Add(kind.Pack(backend, Size, Size, activations));
        }

        CpuThreads threads = CpuThreads.Shared(backend.Threads);
        using Tensor bytes = RawRead.Memory(copies[0].ByteLength * copies.Count);
        using Tensor x = Tensor.OnHost(new Shape(1, Size), DType.F32), y = Tensor.OnHost(new Shape(1, Size), DType.F32);
        WeightKind.Fill(x);
        int next = 0;
        double[][] times = Clock.Rounds(
            rounds,
            () => RawRead.Run(bytes, threads),
            () => MatMul.Forward(backend, x, copies[next++ % copies.Count], null, y));
        double[] rates = [.. times[1].Select(t => (double)Size * Size / t * 1e-9)];
        double gigabytes = copies[0].ByteLength / (double)Size / Size;
        string ratio = f32 == 0 ? "" : $", {BenchReport.Median(rates) / f32:F2}× F32";
        report.Add(
            $"{kind.Name}, {activations} x, {8 * gigabytes:F2} bits{ratio}",
            rates,
            "Gw/s",
            [.. times[1].Zip(times[0], (t, read) => read / copies.Count / t)],
            $"raw reading ({BenchReport.Median(rates) * gigabytes:F1} GB/s)");
        copies.ForEach(c => c.Dispose());
        return BenchReport.Median(rates);
    }
}
