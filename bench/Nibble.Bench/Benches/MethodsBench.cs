using System.Globalization;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;

namespace Nibble.Bench.Benches;

/// <summary>
/// Methods at equal bits and group on the same 51,200 tokens, compared in pairs; fails where the one that should be better is worse. Calibrated methods run once for each of --rounds seeds of their
/// samples, and an interval knows both chances: that of the text (block bootstrap of the losses averaged over seeds) and that of the samples (Student's t over seeds).
/// </summary>
internal static class MethodsBench
{
    private const int Window = 512, Tokens = 51_200, FirstSeed = 1234;

    private static readonly (string Name, string Settings, bool Calibrated)[] Methods =
    [
        ("rtn", "rtn", false), ("hqq", "hqq", false), ("gptq", "gptq", true), ("gptq+act_order", "gptq:act_order=true", true),
        ("gptq+act_order+static", "gptq:act_order=true,static_groups=true", true), ("awq", "awq", true),
    ];

    private static readonly (string Better, string Worse)[] Pairs =
    [
        ("hqq", "rtn"), ("gptq", "hqq"), ("gptq", "rtn"), ("gptq+act_order", "gptq"), ("gptq+act_order+static", "gptq"), ("awq", "rtn"), ("gptq", "awq"),
    ];

    public static void Run(BenchOptions options, BenchReport report)
    {
        string model = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        string text = options.Data ?? AssetFolder.Find(Path.Combine("assets", "text", "test.txt"));
        CalibrationRequest calibration = new(options.Calibration ?? "demo") { Samples = options.Samples ?? 128 };
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-methods-");
        try
        {
            Add(report, "dense", [Losses(model, text)]);
            foreach (int bits in new[] { 3, 4 })
            {
                Dictionary<string, float[][]> losses = [];
                foreach ((string method, string chosen, bool calibrated) in Methods)
                {
                    string settings = string.Create(CultureInfo.InvariantCulture, $"*={chosen}{(chosen.Contains(':', StringComparison.Ordinal) ? ',' : ':')}bits={bits},group_size=64");
                    PlanRequest plan = new(PlanOverride.Parse(settings).Settings!);
                    losses[method] = [.. Enumerable.Range(FirstSeed, calibrated ? options.Rounds : 1).Select(seed => Quantized(model, text, plan, calibration with { Seed = seed }, folder))];
                    Add(report, $"{method} {bits}", losses[method]);
                }

                foreach ((string better, string worse) in Pairs)
                {
                    Compare(report, $"{better} {bits}", losses[better], $"{worse} {bits}", losses[worse]);
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static float[] Quantized(string model, string text, PlanRequest plan, CalibrationRequest calibration, DirectoryInfo folder)
    {
        string output = Path.Combine(folder.FullName, "q");
        Quantizer.Run(model, output, plan, new QuantizerOptions { Calibration = calibration, Force = true });
        return Losses(output, text);
    }

    private static void Add(BenchReport report, string name, float[][] seeds) =>
        report.AddMean(name, [.. seeds.Select(losses => Math.Exp(losses.Average(loss => (double)loss)))], "perplexity");

    private static void Compare(BenchReport report, string better, float[][] first, string worse, float[][] second)
    {
        float[] one = Mean(first), other = Mean(second);
        double difference = one.Average(loss => (double)loss) - other.Average(loss => (double)loss);
        (double low, double high) = new BlockBootstrap(1234).MeanDifference(one, other);
        double[] bySeed = [.. Enumerable.Range(0, Math.Max(first.Length, second.Length)).Select(seed => Of(first, seed) - Of(second, seed))];
        (double below, double above, double seeds) = (difference - low, high - difference, BenchReport.HalfInterval(bySeed));
        (low, high) = (difference - Math.Sqrt((below * below) + (seeds * seeds)), difference + Math.Sqrt((above * above) + (seeds * seeds)));
        report.Check(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{better} less {worse}: loss {difference:F5} ({low:F5} to {high:F5}) over {one.Length} tokens, by seed {string.Join(' ', bySeed.Select(value => value.ToString("F5", CultureInfo.InvariantCulture)))}"),
            low > 0 ? "worse with 95 % confidence" : null);
    }

    private static double Of(float[][] losses, int seed) => losses[Math.Min(seed, losses.Length - 1)].Average(loss => (double)loss);

    private static float[] Mean(float[][] seeds) => [.. Enumerable.Range(0, seeds[0].Length).Select(token => seeds.Average(losses => losses[token]))];

    private static float[] Losses(string model, string text)
    {
        using LoadedModel loaded = LoadedModel.Load(model);
        Protocol protocol = Protocol.Create("blocks", Math.Min(Window, loaded.Facts.Context), null, loaded.Facts.Context);
        return new LikelihoodScorer(loaded.Model).Score(TokenizedText.Create(TextSource.Load(text), protocol, TextJoin.Raw, loaded.Tokenizer, Tokens), protocol);
    }
}
