using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>A prompt of 512 tokens through whole models of true shapes: kernels of machine code beside the compiled ones of the same rounds.</summary>
internal static class PrefillBench
{
    private const string Shapes = "llama-1.1b";
    private const int Tokens = 512, MostRounds = 3;

    public static void Run(BenchOptions options, BenchReport report)
    {
        string[] variants = [.. CpuVariant.All.Where(v => v.Isa == CpuIsa.Avx512 && v.IsSupported).Select(v => v.Name).Reverse()];
        if (variants.Length < 2)
        {
            report.Check("machine code runs here", "it does not: nibble doctor tells why");
            return;
        }

        foreach (string method in new[] { "rtn:bits=8", "rtn:bits=4", "ternary" })
        {
            RunOne(options, report, method, variants);
        }
    }

    private static void RunOne(BenchOptions options, BenchReport report, string method, string[] variants)
    {
        int threads = CpuThreads.Choose(options.Threads);
        List<IDisposable> opened = [];
        List<Action> bodies = [];
        foreach (string variant in variants)
        {
            // Packings belong to a variant, which the variable chooses when the model is loaded.
            Environment.SetEnvironmentVariable(CpuVariant.EnvironmentVariable, variant);
            SpeedOptions speed = new()
            {
                Shapes = Shapes,
                Threads = [threads],
                Load = new LoadOptions { Activations = ActivationChoice.Int8, Dtype = DType.F16 },
            };
            BenchedModel model = BenchedModel.Load(speed, ModelSpeed.Request(method));
            SpeedRun run = new(model.Model, Tokens);
            CpuBackend backend = new(new CpuOptions(threads, variant));
            opened.AddRange([model, run, backend]);
            bodies.Add(() => run.Prefill(backend, Tokens));
        }

        double[][] times = Clock.Rounds(Math.Min(options.Rounds, MostRounds), [.. bodies]);
        for (int i = 0; i < variants.Length; i++)
        {
            report.Add(
                $"{Shapes} {method}, 512 tokens, {variants[i]}", [.. times[i].Select(t => Tokens / t)], "tokens/s", [.. times[0].Zip(times[i], (c, t) => c / t)], variants[0]);
        }

        opened.Reverse();
        opened.ForEach(item => item.Dispose());
        Environment.SetEnvironmentVariable(CpuVariant.EnvironmentVariable, options.Kernels);
    }
}
