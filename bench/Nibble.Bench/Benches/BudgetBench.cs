using System.Globalization;
using Nibble.Backends;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Plans within a budget against every uniform plan of the same size or less: KL divergence over 50,000 tokens, paired. <c>--method</c>: only the uniform plans that begin so, several
/// with a plus sign between them.
/// </summary>
internal static class BudgetBench
{
    private const int Window = 512, Tokens = 51_200;

    /// <summary>Uniform plans that take nearly the same bytes: the smallest is their budget. Those at which plans have least room come first.</summary>
    private static readonly string[][] Sizes =
    [
        ["rtn:bits=2,group_size=128", "gptq:bits=2,group_size=128,act_order=true,static_groups=true@compressed-tensors"],
        ["gptq:bits=2,group_size=128", "gptq:bits=2,group_size=128,act_order=true"],
        ["rtn:bits=4,group_size=128", "gptq:bits=4,group_size=128,act_order=true,static_groups=true@compressed-tensors", "awq:bits=4,group_size=128"],
        ["hqq:bits=4,group_size=64", "nf4"],
        ["rtn:bits=3,group_size=128", "gptq:bits=3,group_size=128,act_order=true,static_groups=true@compressed-tensors", "awq:bits=3,group_size=128"],
        ["gptq:bits=3,group_size=128", "gptq:bits=3,group_size=128,act_order=true"],
        ["gptq:bits=4,group_size=128", "gptq:bits=4,group_size=128,act_order=true", "quanto:bits=4"],
        ["nf4:double_quant=true"],
        ["hqq:bits=3,group_size=64"],
        ["gptq:bits=4,group_size=64,act_order=true"],
    ];

    public static void Run(BenchOptions options, BenchReport report)
    {
        string model = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        CalibrationRequest calibration = new("demo") { Samples = options.Samples ?? 64 };
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-budget-");
        try
        {
            States baseline = new();
            using (LoadedModel dense = LoadedModel.Load(model))
            {
                Score(dense, baseline);
            }

            using BudgetProblem problem = BudgetProblem.Open(model, null, null);
            problem.Measure(calibration, null, CancellationToken.None);
            using BudgetTrials trials = new(model, calibration, CancellationToken.None);
            foreach (string[] size in Sizes.Select(size => size.Where(text => Chosen(options, text)).ToArray()).Where(size => size.Length > 0))
            {
                List<(string Name, double Bits, float[] Kl)> uniform = [.. size.Select(text => Measure(model, folder, text, RequestOf(text), calibration, baseline, report))];
                double bits = uniform.Min(item => item.Bits);
                BudgetPlan plan = trials.Best(problem, new BudgetRequest { BitsPerWeight = bits });
                foreach (BudgetTrial trial in plan.Trials)
                {
                    report.Add(string.Create(CultureInfo.InvariantCulture, $"tried for {bits:F3}: {trial.Name}, {trial.BitsPerWeight:F3} bpw"), [trial.Kl], "KL");
                }

                Compare(uniform, Measure(model, folder, $"{Name(bits)}: {plan.Trials[plan.Chosen].Name}", plan.Request, calibration, baseline, report), report);
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static bool Chosen(BenchOptions options, string text) => options.Method?.Split('+').Any(start => text.StartsWith(start, StringComparison.Ordinal)) != false;

    private static string Name(double bits) => string.Create(CultureInfo.InvariantCulture, $"budget {bits:F3}");

    private static PlanRequest RequestOf(string text) => text.Split('@') is [var settings, var layout] ? RequestOf(settings) with { Layout = layout } : new(PlanOverride.Parse("*=" + text).Settings!);

    private static void Compare(IEnumerable<(string Name, double Bits, float[] Kl)> uniform, (string Name, double Bits, float[] Kl) plan, BenchReport report)
    {
        foreach ((string name, _, float[] kl) in uniform)
        {
            double difference = plan.Kl.Average() - kl.Average();
            (double low, double high) = new BlockBootstrap(1234).MeanDifference(plan.Kl, kl);
            report.Check(string.Create(CultureInfo.InvariantCulture, $"{plan.Name} against {name}: KL {difference:F5} ({low:F5} to {high:F5})"), high < 0 ? null : "not lower with 95 % confidence");
        }
    }

    private static (string Name, double Bits, float[] Kl) Measure(
        string model, DirectoryInfo folder, string name, PlanRequest request, CalibrationRequest calibration, States baseline, BenchReport report)
    {
        string output = Path.Combine(folder.FullName, "q");
        QuantizationResult result = Quantizer.Run(model, output, request, new QuantizerOptions { Calibration = calibration, Force = true });
        Divergences measured = new(baseline);
        using (LoadedModel quantized = LoadedModel.Load(output))
        {
            Score(quantized, measured);
        }

        report.Add(string.Create(CultureInfo.InvariantCulture, $"{name}, {result.Report.BitsPerWeight:F3} bpw"), [measured.Kl.Average()], "KL");
        return (name, result.Report.BitsPerWeight, [.. measured.Kl]);
    }

    private static void Score(LoadedModel model, IScoredRows visitor)
    {
        Protocol protocol = Protocol.Create("blocks", Window, null, model.Facts.Context);
        EvaluationText text = TextSource.Load(AssetFolder.Find(Path.Combine("assets", "text", "test.txt")));
        new LikelihoodScorer(model.Model).Score(TokenizedText.Create(text, protocol, TextJoin.Raw, model.Tokenizer, Tokens), protocol, visitor);
    }

    /// <summary>Keeps the logits of a model's scored positions in 16 bits.</summary>
    private class States : IScoredRows
    {
        public List<ushort[]> Logits { get; } = [];

        public void Visit(CausalModel model, Tensor hidden, int first, Workspace workspace)
        {
            int vocabulary = model.Facts.Vocabulary;
            float[] values = new float[hidden.Shape.Rows * vocabulary];
            using (Workspace.Scope scope = workspace.Begin())
            {
                Tensor logits = workspace.Rent(new Shape(hidden.Shape.Rows, vocabulary));
                model.Logits(hidden, logits);
                model.Backend.Read(logits, values);
            }

            See(values, first, vocabulary);
        }

        protected virtual void See(float[] values, int first, int vocabulary)
        {
            ushort[] half = new ushort[values.Length];
            for (int i = 0; i < half.Length; i++)
            {
                half[i] = BitConverter.HalfToUInt16Bits((Half)values[i]);
            }

            Logits.Add(half);
        }
    }

    /// <summary>Compares another model's logits with them.</summary>
    private sealed class Divergences(States baseline) : States
    {
        private int _part;

        public List<float> Kl { get; } = [];

        protected override void See(float[] values, int first, int vocabulary)
        {
            float[] expected = new float[values.Length];
            TensorConvert.F16ToF32(baseline.Logits[_part++], expected);
            for (int at = 0; at < values.Length; at += vocabulary)
            {
                Kl.Add((float)Divergence.Kl(expected.AsSpan(at, vocabulary), values.AsSpan(at, vocabulary)));
            }
        }
    }
}
