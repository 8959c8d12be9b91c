using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Bench.Benches;

/// <summary>What to run in the first minutes on a card: every kernel against its reference, then products of few rows.</summary>
internal static class CudaBenches
{
    // Weights rotate through four times the second-level cache of an H100.
    private const long RotatedBytes = 4L * (50 << 20);

    /// <summary>Every check of the tests, on the card; --kernels chooses by a part of their name, --small fewer sizes for compute-sanitizer's racecheck.</summary>
    public static void Verify(BenchOptions options, BenchReport report)
    {
        KernelData.Small = options.Small;
        Compile();
        void Run(IEnumerable<KernelCheck> checks, IBackend target)
        {
            foreach (KernelCheck check in checks.Where(check => options.Kernels is null || check.Name.Contains(options.Kernels, StringComparison.Ordinal)))
            {
                report.Check(check.Name, Failure(() => check.Run(target)));
            }
        }

        using CudaBackend backend = new(), half = new(new CudaOptions(Compute: DType.BF16));
        Console.Error.WriteLine($"{backend.KernelVariant}, {string.Join("; ", CudaDiagnosis.Run().Select(finding => $"{finding.Check}: {finding.Found}"))}");
        Run(TensorChecks.All, new MirrorCheckBackend(half));
        Run(KernelChecks.All, new MirrorCheckBackend(backend));
        Run(QuantizerChecks.All, backend);
        Run(HalfChecks.All.Concat(FusedChecks.All), half);
    }

    // All sources at once: one after the other they take minutes.
    private static void Compile()
    {
        using CudaDevice device = CudaDevice.Open(0);
        Parallel.ForEach(CudaKernelNames.Sources, source => new KernelCompiler(device.Facts.Architecture, device.Facts.DriverVersion).Compile(source));
    }

    /// <summary>Products by the card's own clock, as a share of reading the weight at 3.35 TB/s; --kernels chooses kinds of weights by a part of their name.</summary>
    public static void Gemv(BenchOptions options, BenchReport report)
    {
        using CudaDevice device = CudaDevice.Open(0);
        using CudaBackend backend = new(device, DType.BF16);
        foreach (WeightKind kind in WeightKind.All.Where(kind => options.Kernels is null || kind.Name.Contains(options.Kernels, StringComparison.Ordinal)))
        {
            foreach ((int outs, int ins) in new[] { (4096, 4096), (11008, 4096), (4096, 11008) })
            {
                List<IPackedWeight> weights = Rotation(backend, kind, outs, ins);
                foreach (int rows in new[] { 1, 4, 8, 16, 32, 64, 128, 256, 512, 1024 })
                {
                    RunOne(device, backend, options.Rounds, report, $"{rows}×{outs}×{ins} {kind.Name}", weights, rows);
                    // What a prompt's and a training's products read and write.
                    if (rows >= 64)
                    {
                        RunOne(device, backend, options.Rounds, report, $"{rows}×{outs}×{ins} {kind.Name}, x and y in BF16", weights, rows, dtype: DType.BF16);
                    }
                }

                weights.ForEach(weight => weight.Dispose());
            }
        }
    }

    /// <summary>LLM.int8 as a whole, with a few columns of outliers.</summary>
    public static void Int8(BenchOptions options, BenchReport report)
    {
        using CudaDevice device = CudaDevice.Open(0);
        using CudaBackend backend = new(device, DType.BF16);
        foreach ((int outs, int ins) in new[] { (4096, 4096), (11008, 4096), (4096, 11008) })
        {
            List<IPackedWeight> weights = [];
            using AffineWeight source = (AffineWeight)WeightKind.All.First(kind => kind.Name == "affine8 row").Make!(outs, ins);
            while (weights.Sum(weight => weight.ByteLength) < RotatedBytes)
            {
                weights.Add(backend.PrepareInt8(source, 6));
            }

            int few = backend.Int8.MostFewRows;
            foreach (int rows in new[] { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048 })
            {
                RunOne(device, backend, options.Rounds, report, $"{rows}×{outs}×{ins} llm.int8", weights, rows, outliers: 8);
                if (rows <= 8)
                {
                    backend.Int8.MostFewRows = rows <= few ? 0 : 8;
                    RunOne(device, backend, options.Rounds, report, $"{rows}×{outs}×{ins} llm.int8, {(rows <= few ? "rounded once" : "rounded by each block")}", weights, rows, outliers: 8);
                    backend.Int8.MostFewRows = few;
                }
            }

            weights.ForEach(weight => weight.Dispose());
        }
    }

    private static List<IPackedWeight> Rotation(CudaBackend backend, WeightKind kind, int outs, int ins)
    {
        List<IPackedWeight> weights = [];
        using QuantizedWeight? source = kind.Make?.Invoke(outs, ins);
        while (weights.Sum(weight => weight.ByteLength) < RotatedBytes)
        {
            weights.Add(source is null ? kind.Pack(backend, outs, ins, ActivationType.F32) : backend.Prepare(source, ActivationType.F32));
        }

        return weights;
    }

    private static void RunOne(CudaDevice device, CudaBackend backend, int rounds, BenchReport report, string name, List<IPackedWeight> weights, int rows, int outliers = 0, DType dtype = DType.F32)
    {
        IPackedWeight first = weights[0];
        using Tensor host = KernelData.Random(new Shape(rows, first.In), 1);
        for (int i = 0; i < outliers; i++)
        {
            host.HostSpan<float>()[(i + 1) * 31] = 20;
        }

        using Tensor given = host.To(dtype), x = given.Upload(backend), y = backend.Allocate(new Shape(rows, first.Out), dtype);
        void Queue()
        {
            foreach (IPackedWeight weight in weights)
            {
                MatMul.Forward(backend, x, weight, null, y);
            }
        }

        // Recorded, so that the card's time is measured and not how fast a processor can queue.
        Queue();
        RecordedWork work = device.Record(Queue)!;
        using IDisposable held = work.Held;
        device.Time(work.Queue);
        double[] seconds = [.. Enumerable.Range(0, rounds).Select(_ => device.Time(work.Queue) / weights.Count)];
        report.Add(name, [.. seconds.Select(s => 1e6 * s)], "µs", [.. seconds.Select(s => first.ByteLength / 3.35e12 / s)], "reading at 3.35 TB/s");
    }

    internal static string? Failure(Action check)
    {
        try
        {
            check();
            return null;
        }
        catch (Exception error) when (error is InvalidOperationException or ArgumentException or NotSupportedException or IO.NibbleException)
        {
            return error.Message;
        }
    }
}
