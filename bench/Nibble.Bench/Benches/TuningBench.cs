using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>
/// What tuning gains on the new domain and costs on the old one, over seeds: the recipe of <c>finetune --demo</c> (also that of
/// tools/peft_recipe.py), then the tuned model beside its base on general text.
/// </summary>
internal static class TuningBench
{
    private const int FirstSeed = 1234, WarmUpSteps = 2, GeneralTokens = 20_000;

    private static FineTuneOptions Recipe => new()
    {
        Model = AssetFolder.Find("assets/nibble-gpt2-10m"),
        Data = AssetFolder.Find("assets/text/tune-train.txt"),
        EvalData = AssetFolder.Find("assets/text/tune-valid.txt"),
        Lora = new LoraSettings { Rank = 8, Alpha = 16, TargetModules = [TargetModules.AllLinear] },
        Trainer = new TrainerSettings { BatchSize = 8, MaxSeqLength = 256, MaxSteps = 16 },
    };

    /// <summary>Each with a learning rate of its own: what suits a few tokens' keys would ruin all of a model.</summary>
    private static readonly (string Method, double LearningRate)[] Methods = [("full", 1e-4), ("lora", 2e-3), ("qlora", 2e-3), ("prefix", 2e-2)];

    /// <summary>Products in F32, and in BF16 beside them: the difference is to be small beside that of seeds.</summary>
    public static void RunBFloat16(BenchOptions options, BenchReport report)
    {
        string folder = Directory.CreateTempSubdirectory("nibble-tuning-").FullName;
        try
        {
            foreach ((string method, double rate) in Methods.Where(method => method.Method is "full" or "lora" && (options.Method ?? method.Method) == method.Method))
            {
                FineTuneOptions recipe = Recipe with { Method = method, Threads = options.Threads, Force = true, Trainer = Recipe.Trainer with { LearningRate = rate } };
                FineTuneReport[] floats = [.. Seeds(options).Select(seed => Tune(recipe, seed, folder))];
                FineTuneReport[] halves = [.. Seeds(options).Select(seed => Tune(recipe with { Activations = DType.BF16 }, seed, folder))];
                report.AddMean($"{method}, F32: held-out nll after", [.. floats.Select(run => run.HeldOutAfter!.Value)], "nats");
                report.AddMean($"{method}, BF16: held-out nll after", [.. halves.Select(run => run.HeldOutAfter!.Value)], "nats");
                report.AddMean($"{method}: BF16 − F32 of a seed", [.. halves.Zip(floats, (half, single) => half.HeldOutAfter!.Value - single.HeldOutAfter!.Value)], "nats");
                double apart = floats.Zip(halves).Max(pair => pair.First.Log.Zip(pair.Second.Log).Max(steps => Math.Abs(steps.First.Loss - steps.Second.Loss)));
                double seeds = floats.Skip(1).Min(run => floats[0].Log.Zip(run.Log).Max(steps => Math.Abs(steps.First.Loss - steps.Second.Loss)));
                report.AddMean($"{method}: largest difference of a step's loss", [apart], "nats");
                report.AddMean($"{method}: the same between two seeds, at least", [seeds], "nats");
                report.Check($"{method}: BF16 stays within the seeds' spread", apart < seeds ? null : "it does not");
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Gain on held-out text of the domain and speed, without the general text.</summary>
    public static void Run(BenchOptions options, BenchReport report) => Run(options, report, Methods.Where(method => method.Method != "prefix"), general: false);

    /// <summary>The same, and what it cost on general text.</summary>
    public static void RunForgetting(BenchOptions options, BenchReport report) => Run(options, report, Methods, general: true);

    private static void Run(BenchOptions options, BenchReport report, IEnumerable<(string Method, double LearningRate)> methods, bool general)
    {
        string folder = Directory.CreateTempSubdirectory("nibble-tuning-").FullName;
        try
        {
            double[]? lora = null;
            foreach ((string method, double rate) in methods)
            {
                FineTuneOptions recipe = Recipe with { Method = method, Threads = options.Threads, Trainer = Recipe.Trainer with { LearningRate = rate } };
                FineTuneReport[] runs = [.. Seeds(options).Select(seed => Tune(recipe, seed, folder))];
                double[] gains = [.. runs.Select(run => run.HeldOutBefore!.Value - run.HeldOutAfter!.Value)];
                Add(report, method, runs, gains);
                lora = method == "lora" ? gains : lora;
                if (method == "qlora")
                {
                    report.AddMean("qlora: gain kept of lora's", [.. gains.Zip(lora!, (gain, all) => 100 * gain / all)], "%");
                }

                if (general)
                {
                    Forget(report, method, Seeds(options).Select(seed => (Place(folder, method, seed), method)), options);
                }
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static IEnumerable<int> Seeds(BenchOptions options) => Enumerable.Range(FirstSeed, Math.Min(options.Rounds, 5));

    private static string Place(string folder, string method, int seed) => Path.Combine(folder, $"{method}-{seed}");

    private static FineTuneReport Tune(FineTuneOptions recipe, int seed, string folder) => FineTune.Run(
        recipe with { Trainer = recipe.Trainer with { Seed = seed }, Output = Place(folder, recipe.Method, seed) });

    private static void Add(BenchReport report, string method, FineTuneReport[] runs, double[] gains)
    {
        report.AddMean($"{method}: held-out nll before", [.. runs.Select(run => run.HeldOutBefore!.Value)], "nats");
        report.AddMean($"{method}: held-out nll after", [.. runs.Select(run => run.HeldOutAfter!.Value)], "nats");
        report.AddMean($"{method}: gain", gains, "nats");
        report.AddMean($"{method}: speed", [.. runs.Select(run => BenchReport.Median([.. run.Log.Skip(WarmUpSteps).Select(step => step.RunTokens / step.Seconds)]))], "tok/s");
    }

    private static void Forget(BenchReport report, string method, IEnumerable<(string Path, string Method)> tuned, BenchOptions options)
    {
        ResultDocument[] documents = [.. tuned.Select(item => Forgetting.Run(
            method == "full" ? item.Path : Recipe.Model,
            Recipe.Model,
            new EvaluationOptions
            {
                Data = AssetFolder.Find("assets/text/test.txt"), Limit = GeneralTokens, Load = Load(item.Path, method, options),
            }))];
        report.AddMean($"{method}: general perplexity before", [.. documents.Select(document => document.Metrics["perplexity_before"])], string.Empty);
        report.AddMean($"{method}: general perplexity after", [.. documents.Select(document => document.Metrics["perplexity"])], string.Empty);
        report.AddMean($"{method}: KL from the base", [.. documents.Select(document => document.Metrics["kl"])], "nats");
    }

    private static LoadOptions Load(string path, string method, BenchOptions options) => new()
    {
        Threads = options.Threads,
        Adapter = method == "full" ? null : path,
        Quantization = method == "qlora" ? new PlanRequest(new QuantizationSettings { Method = "nf4", DoubleQuant = true }) : null,
    };
}
