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

    /// <summary>Products in F32 and in BF16 on one packing, and with int8 activations where there are codes.</summary>
    public static void RunBFloat16(BenchOptions options, BenchReport report)
    {
        (string Shapes, string Method, DType Dtype)[] models =
        [
            ("gpt2-124m", "none", DType.F16), ("gpt2-124m", "none", DType.BF16), ("gpt2-124m", "rtn:bits=4", DType.BF16),
            ("llama-1.1b", "none", DType.BF16), ("llama-1.1b", "rtn:bits=4", DType.BF16), ("llama-1.1b", "nf4", DType.BF16),
        ];
        foreach ((string shapes, string method, DType dtype) in models.Where(model => options.Model is null || model.Shapes == options.Model))
        {
            using BenchedModel model = Load(shapes, method, dtype, ActivationChoice.F32, options);
            using BenchedModel? integers = method == "none" ? null : Load(shapes, method, dtype, ActivationChoice.Int8, options);
            using SpeedRun run = new(model.Model, Tokens);
            using SpeedRun? integerRun = integers is null ? null : new(integers.Model, Tokens);
            using CpuBackend floats = options.CreateBackend(), halves = options.CreateBackend(DType.BF16);
            List<(string Name, Action Body)> bodies = [("F32", () => run.Prefill(floats, Tokens)), ("BF16", () => run.Prefill(halves, Tokens))];
            if (integerRun is not null)
            {
                bodies.Add(("int8", () => integerRun.Prefill(floats, Tokens)));
            }

            double[][] times = Clock.Rounds(Math.Min(options.Rounds, MostRounds), [.. bodies.Select(item => item.Body)]);
            for (int i = 0; i < times.Length; i++)
            {
                report.Add(
                    $"{shapes} {(method == "none" ? dtype.ToString() : method)}, 512 tokens, {bodies[i].Name} x, {floats.KernelVariant}", [.. times[i].Select(t => Tokens / t)], "tokens/s",
                    i == 0 ? null : [.. times[0].Zip(times[i], (f, t) => f / t)], "F32");
            }
        }
    }

    private static BenchedModel Load(string shapes, string method, DType dtype, ActivationChoice activations, BenchOptions options)
    {
        SpeedOptions speed = new()
        {
            Shapes = shapes, Threads = [CpuThreads.Choose(options.Threads)], Load = new LoadOptions { Activations = activations, Dtype = dtype },
        };
        return BenchedModel.Load(speed, ModelSpeed.Request(method, tied: shapes == "gpt2-124m"));
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
