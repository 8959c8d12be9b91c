using Nibble.Backends.Cpu;

namespace Nibble.Bench.Benches;

/// <summary>What it costs to hand out work and wait for it.</summary>
internal static class ForkJoin
{
    private const int Calls = 2000;

    public static void Run(BenchOptions options, BenchReport report)
    {
        CpuThreads threads = CpuThreads.Shared(CpuThreads.Choose(options.Threads));
        double[][] times = Clock.Rounds(
            options.Rounds,
            () =>
            {
                for (int i = 0; i < Calls; i++)
                {
                    threads.Run(threads.Count, default(Nothing));
                }
            },
            () =>
            {
                for (int i = 0; i < Calls; i++)
                {
                    Parallel.For(0, threads.Count, static _ => { });
                }
            });
        report.Add($"empty run, {threads.Count} parts", [.. times[0].Select(t => t / Calls * 1e6)], "µs");
        report.Add($"Parallel.For, {threads.Count} parts", [.. times[1].Select(t => t / Calls * 1e6)], "µs");
    }

    private struct Nothing : ICpuJob
    {
        public readonly void Execute(int part)
        {
        }
    }
}
