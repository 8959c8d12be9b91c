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

/// <summary>Methods at equal bits and group on the same 51,200 tokens, compared in pairs by bootstrap; fails where the one that should be better is worse.</summary>
internal static class MethodsBench
{
    private const int Window = 512, Tokens = 51_200;

    public static void Run(BenchOptions options, BenchReport report)
    {
        string model = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        string text = options.Data ?? AssetFolder.Find(Path.Combine("assets", "text", "test.txt"));
        CalibrationRequest calibration = new(options.Calibration ?? "demo");
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-methods-");
        try
        {
            Add(report, "dense", Losses(model, text));
            foreach (int bits in new[] { 3, 4 })
            {
                Dictionary<string, float[]> losses = [];
                foreach (string method in new[] { "rtn", "hqq", "gptq", "gptq+act_order", "awq" })
                {
                    string settings = string.Create(CultureInfo.InvariantCulture, $"*={method.Split('+')[0]}:bits={bits},group_size=64") + (method.Contains('+', StringComparison.Ordinal) ? ",act_order=true" : string.Empty);
                    string output = Path.Combine(folder.FullName, "q");
                    Quantizer.Run(model, output, new PlanRequest(PlanOverride.Parse(settings).Settings!), new QuantizerOptions { Calibration = calibration, Force = true });
                    Add(report, $"{method} {bits}", losses[method] = Losses(output, text));
                }

                foreach ((string better, string worse) in new[] { ("hqq", "rtn"), ("gptq", "hqq"), ("gptq", "rtn"), ("gptq+act_order", "gptq"), ("awq", "rtn"), ("gptq", "awq") })
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

    private static void Add(BenchReport report, string name, float[] losses) => report.Add(name, [Math.Exp(losses.Average(loss => (double)loss))], "perplexity");

    private static void Compare(BenchReport report, string better, float[] first, string worse, float[] second)
    {
        (double low, double high) = new BlockBootstrap(1234).MeanDifference(first, second);
        double difference = first.Average() - second.Average();
        report.Check(
            string.Create(CultureInfo.InvariantCulture, $"{better} less {worse}: loss {difference:F5} ({low:F5} to {high:F5}) over {first.Length} tokens"),
            low > 0 ? "worse with 95 % confidence" : null);
    }

    private static float[] Losses(string model, string text)
    {
        using LoadedModel loaded = LoadedModel.Load(model);
        Protocol protocol = Protocol.Create("blocks", Math.Min(Window, loaded.Facts.Context), null, loaded.Facts.Context);
        return new LikelihoodScorer(loaded.Model).Score(TokenizedText.Create(TextSource.Load(text), protocol, TextJoin.Raw, loaded.Tokenizer, Tokens), protocol);
    }
}
