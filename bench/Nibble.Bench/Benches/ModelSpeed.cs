using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Evaluation;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Whole models of true shapes with random weights: a prompt of 512 tokens, and decoding beside the raw read of the same rounds. --model
/// takes one of the shapes, --method one of the widths (32, 16, 8, 4, ternary).
/// </summary>
internal static class ModelSpeed
{
    private const int MostRounds = 3;

    private const string Gpt2 = "gpt2-124m";
    private const string Llama = "llama-1.1b";

    // What decoding may take besides weights and cache.
    private const double MostOtherBytes = 100e6;

    private static readonly (string Shapes, string Method, DType Dtype, string Peer)[] Cases =
    [
        (Gpt2, "none", DType.F32, "32"),
        (Gpt2, "none", DType.F16, "16"),
        (Gpt2, "rtn:bits=8", DType.F16, "8"),
        (Gpt2, "rtn:bits=4", DType.F16, "4"),
        (Llama, "none", DType.F32, "32"),
        (Llama, "rtn:bits=8", DType.F16, "8"),
        (Llama, "rtn:bits=4", DType.F16, "4"),
        (Llama, "ternary", DType.F16, "ternary"),
    ];

    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach ((string shapes, string method, DType dtype, string peer) in Cases.Where(item => Wanted(options.Model, item.Shapes) && Wanted(options.Method, item.Peer)))
        {
            SpeedOptions speed = new()
            {
                Shapes = shapes,
                Methods = [Request(method, tied: shapes == Gpt2)],
                Threads = [CpuThreads.Choose(options.Threads)],
                Tokens = 32,
                Rounds = Math.Min(options.Rounds, MostRounds),
                Load = new LoadOptions { Activations = ActivationChoice.Int8, Dtype = dtype },
                Peer = Peer(options, $"{shapes}-{peer}.gguf"),
            };
            ResultDocument cell = SpeedBench.Run(speed)[0];
            string name = $"{shapes} {(method == "none" ? dtype.ToString() : method)}, {cell.ActivationDtype} x, {cell.Kernels}";
            report.Add(name + ", prompt", Rounds(cell, "prefill_tokens_per_second"), "tokens/s");
            report.Add(name + ", decode", Rounds(cell, "decode_tokens_per_second"), "tokens/s", [cell.Metrics["decode_read_share"]], "raw reading");
            if (speed.Peer is not null)
            {
                report.Add(name + ", prompt of the peer", Rounds(cell, "peer_prefill_tokens_per_second"), "tokens/s", Share(cell, "prefill_over_peer"), "it by Nibble");
                report.Add(name + ", decode of the peer", Rounds(cell, "peer_decode_tokens_per_second"), "tokens/s", Share(cell, "decode_over_peer"), "it by Nibble");
            }

            CheckMemory(cell, name, report);
        }
    }

    private static bool Wanted(string? asked, string name) => asked is null || asked == name;

    private static void CheckMemory(ResultDocument cell, string name, BenchReport report)
    {
        if (cell.Metrics.TryGetValue("run_peak_memory_bytes", out double peak))
        {
            double other = peak - cell.Metrics["weight_bytes"] - cell.Metrics["kv_cache_bytes"];
            report.Add(name + ", peak memory besides weights and cache", [other / 1e6], "MB");
            report.Check($"{name}: at most 100 MB besides weights and cache", other <= MostOtherBytes ? null : $"{other / 1e6:F0} MB");
        }
    }

    /// <summary>The peer's program on its model of these shapes, where both are there; its column stays empty else.</summary>
    private static LlamaBench? Peer(BenchOptions options, string file)
    {
        string? path = options.PeerModels is { } folder ? Path.Combine(folder, file) : null;
        return options.LlamaBench is { } program && File.Exists(path) ? new LlamaBench(program, path) : null;
    }

    private static double[]? Share(ResultDocument cell, string name) => cell.Metrics.TryGetValue(name, out double share) ? [share] : null;

    /// <summary>The head has the width of the other matrices; where it is tied to the embedding, both are one matrix.</summary>
    public static PlanRequest? Request(string method, bool tied = false) =>
        PlanOverride.Parse("*=" + method).Settings is { } settings ? new PlanRequest(settings) { Head = !tied, Embeddings = tied } : null;

    private static double[] Rounds(ResultDocument cell, string name) => [cell.Intervals[name][0], cell.Metrics[name], cell.Intervals[name][1]];
}
