using System.Diagnostics;
using System.Globalization;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Products of 512 to 2048 rows with int8 activations, their rounding included, beside oneDNN's product of bytes (u8 · s8, 32-bit sums, packed
/// weights), which only multiplies.
/// </summary>
internal static class IntegerGemm
{
    private static readonly (int M, int N, int K)[] Sizes =
        [(512, 768, 768), (512, 3072, 768), (512, 768, 3072), (512, 2048, 2048), (1024, 1024, 1024), (2048, 768, 768), (2048, 3072, 3072)];

    private static readonly string[] Kinds = ["affine8 row", "affine8 g64", "affine4 g64", "ternary"];

    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        foreach ((int m, int n, int k) in Sizes)
        {
            RunOne(backend, options, report, m, n, k);
        }
    }

    private static void RunOne(CpuBackend backend, BenchOptions options, BenchReport report, int m, int n, int k)
    {
        using Tensor x = Tensor.OnHost(new Shape(m, k), DType.F32), y = Tensor.OnHost(new Shape(m, n), DType.F32);
        WeightKind.Fill(x);
        List<IPackedWeight> packed = [.. Kinds.Select(name => WeightKind.All.Single(kind => kind.Name == name).Pack(backend, n, k, ActivationType.Int8))];
        List<Func<double>> bodies = [.. packed.Select(weight => (Func<double>)(() => Clock.Time(() => MatMul.Forward(backend, x, weight, null, y))))];
        if (options.OneDnn is { } program)
        {
            bodies.Add(() => Peer(program, m, n, k, backend.Threads));
        }

        double[][] times = Clock.Rounds(options.Rounds, [.. bodies]);
        double operations = 2.0 * m * n * k;
        double[]? peer = options.OneDnn is null ? null : times[^1];
        for (int i = 0; i < packed.Count; i++)
        {
            double[]? shares = peer is null ? null : [.. times[i].Zip(peer, (ours, theirs) => theirs / ours)];
            report.Add($"{m}×{n}×{k} {Kinds[i]}, {backend.KernelVariant}", [.. times[i].Select(t => operations / t * 1e-9)], "GOP/s", shares, "oneDNN's product alone");
            packed[i].Dispose();
        }

        if (peer is not null)
        {
            report.Add($"  oneDNN {m}×{n}×{k}", [.. peer.Select(t => operations / t * 1e-9)], "GOP/s");
        }
    }

    // Seconds of a call: the peer measures itself, in a process of its own that is gone when our turn comes.
    private static double Peer(string program, int m, int n, int k, int threads)
    {
        ProcessStartInfo start = new(program, [.. new[] { m, n, k, threads }.Select(number => number.ToString(CultureInfo.InvariantCulture))]) { RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0 || !double.TryParse(output, CultureInfo.InvariantCulture, out double seconds))
        {
            Throw.Failed($"{program} ended with {process.ExitCode}", $"it said \"{output.Trim()}\"", "it takes M N K THREADS and prints the seconds of a call");
            return 0;
        }

        return seconds;
    }
}
