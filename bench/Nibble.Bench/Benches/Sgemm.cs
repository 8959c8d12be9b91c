using System.Runtime.InteropServices;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>y = x·Wᵀ in F32 and BF16, against the multiply-add peak of the same rounds, and OpenBLAS where it is given.</summary>
internal static class Sgemm
{
    private static readonly (int M, int N, int K)[] Sizes =
        [(1024, 1024, 1024), (512, 768, 768), (512, 3072, 768), (512, 768, 3072), (512, 2048, 2048), (2048, 768, 768), (1024, 3072, 768), (2048, 2048, 2048), (2048, 3072, 3072), (512, 256, 256), (64, 1024, 1024), (16, 1024, 1024)];

    // From here on a shape counts as large.
    private const int LeastRows = 512, LeastSide = 768;

    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        using OpenBlas? peer = options.OpenBlas is null ? null : new OpenBlas(options.OpenBlas, backend.Threads);
        List<double> ratios = [];
        foreach ((int m, int n, int k) in Sizes)
        {
            foreach (DType dtype in new[] { DType.F32, DType.BF16 })
            {
                double? ratio = RunOne(backend, peer, options.Rounds, report, (m, n, k), dtype);
                if (ratio is { } number && m >= LeastRows && int.Min(n, k) >= LeastSide)
                {
                    ratios.Add(number);
                }
            }
        }

        if (ratios.Count > 0)
        {
            report.Add($"Nibble / OpenBLAS, medians of {ratios.Count} large shapes", [.. ratios], "times");
        }
    }

    /// <summary>Measures one shape; how many times as fast as the peer, or null without one.</summary>
    private static double? RunOne(
        CpuBackend backend, OpenBlas? peer, int rounds, BenchReport report, (int M, int N, int K) size, DType dtype)
    {
        (int m, int n, int k) = size;
        using Tensor x = Tensor.OnHost(new Shape(m, k), DType.F32), y = Tensor.OnHost(new Shape(m, n), DType.F32);
        using Tensor weight = Tensor.OnHost(new Shape(n, k), dtype), floats = Tensor.OnHost(new Shape(n, k), DType.F32);
        x.HostSpan<float>().Fill(0.5f);
        floats.HostSpan<float>().Fill(0.25f);
        using IPackedWeight packed = backend.Prepare(weight);
        CpuVariant variant = ((CpuPacking)packed).Variant;
        CpuThreads threads = CpuThreads.Shared(backend.Threads);
        List<Func<double>> bodies = [() => Clock.Time(() => MachineLimits.RunPeak(variant, threads)), () => Clock.Time(() => MatMul.Forward(backend, x, packed, null, y))];
        if (peer is not null && dtype == DType.F32)
        {
            bodies.Add(() => peer.Time(() => peer.Multiply(x, floats, y)));
        }

        double[][] times = Clock.Rounds(rounds, [.. bodies]);
        double peak = MachineLimits.PeakOperations(variant, backend.Threads), operations = 2.0 * m * n * k;
        string name = $"{m}×{n}×{k} {dtype}, {variant.Name}, {backend.Threads} threads";
        report.Add(
            name,
            [.. times[1].Select(t => operations / t * 1e-9)],
            "GFLOP/s",
            [.. times[1].Zip(times[0], (t, p) => operations / t / (peak / p))],
            "the multiply-add peak");
        if (times.Length == 2)
        {
            return null;
        }

        double[] ratios = [.. times[1].Zip(times[2], (ours, theirs) => theirs / ours)];
        report.Add($"  OpenBLAS {m}×{n}×{k}", [.. times[2].Select(t => operations / t * 1e-9)], "GFLOP/s");
        report.Add($"  Nibble / OpenBLAS {m}×{n}×{k}", ratios, "times");
        return BenchReport.Median(ratios);
    }

    /// <summary>A libopenblas found at run time; nothing is linked against it.</summary>
    private sealed unsafe class OpenBlas : IDisposable
    {
        private const int RowMajor = 101, NoTranspose = 111, Transpose = 112;
        private readonly nint _library;
        private readonly delegate* unmanaged<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void> _sgemm;

        public OpenBlas(string path, int threads)
        {
            _library = NativeLibrary.Load(path);
            _sgemm = (delegate* unmanaged<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void>)
                NativeLibrary.GetExport(_library, "cblas_sgemm");
            ((delegate* unmanaged<int, void>)NativeLibrary.GetExport(_library, "openblas_set_num_threads"))(threads);
        }

        // Its threads spin for some 2^26 clocks after a call, and would disturb whatever runs next.
        private static readonly TimeSpan Rest = TimeSpan.FromMilliseconds(100);

        /// <summary>Seconds of a call; returns when the peer's threads sleep.</summary>
        public double Time(Action call)
        {
            double seconds = Clock.Time(call);
            Thread.Sleep(Rest);
            return seconds;
        }

        public void Multiply(Tensor x, Tensor w, Tensor y)
        {
            (int m, int n, int k) = ((int)x.Shape[0], (int)w.Shape[0], (int)x.Shape[1]);
            _sgemm(
                RowMajor, NoTranspose, Transpose, m, n, k, 1, (float*)x.HostPointer, k, (float*)w.HostPointer, k, 0, (float*)y.HostPointer, n);
        }

        public void Dispose() => NativeLibrary.Free(_library);
    }
}
