using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Evaluation;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Whole models of true shapes with random weights: a prompt of 512 tokens, and decoding beside the raw read of the same rounds.</summary>
internal static class ModelSpeed
{
    private const int MostRounds = 3;

    private const string Gpt2 = "gpt2-124m";

    private static readonly (string Shapes, string Method)[] Cases =
    [
        (Gpt2, "none"),
        (Gpt2, "rtn:bits=8"),
        (Gpt2, "rtn:bits=4"),
        ("llama-1.1b", "rtn:bits=8"),
        ("llama-1.1b", "rtn:bits=4"),
        ("llama-1.1b", "ternary"),
    ];

    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach ((string shapes, string method) in Cases)
        {
            SpeedOptions speed = new()
            {
                Shapes = shapes,
                Methods = [Request(method, tied: shapes == Gpt2)],
                Threads = [CpuThreads.Choose(options.Threads)],
                Tokens = 32,
                Rounds = Math.Min(options.Rounds, MostRounds),
                Load = new LoadOptions { Activations = ActivationChoice.Int8, Dtype = DType.F16 },
            };
            ResultDocument cell = SpeedBench.Run(speed)[0];
            string name = $"{shapes} {method}, {cell.ActivationDtype} x, {cell.Kernels}";
            report.Add(name + ", prompt", Rounds(cell, "prefill_tokens_per_second"), "tokens/s");
            report.Add(name + ", decode", Rounds(cell, "decode_tokens_per_second"), "tokens/s", [cell.Metrics["decode_read_share"]], "raw reading");
        }
    }

    /// <summary>The head has the width of the other matrices; where it is tied to the embedding, both are one matrix.</summary>
    public static PlanRequest? Request(string method, bool tied = false) =>
        PlanOverride.Parse("*=" + method).Settings is { } settings ? new PlanRequest(settings) { Head = !tied, Embeddings = tied } : null;

    private static double[] Rounds(ResultDocument cell, string name) => [cell.Intervals[name][0], cell.Metrics[name], cell.Intervals[name][1]];
}
