using Nibble.Evaluation;
using Nibble.Evaluation.Texts;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Runs.Studies;

/// <summary>What a cell will roughly take: enough to see whether a study is a matter of minutes or days.</summary>
/// <param name="Seconds">Time.</param>
/// <param name="Bytes">Peak memory.</param>
public sealed record CellEstimate(double Seconds, long Bytes)
{
    // Multiply-adds a second and thread that F32 kernels reach on present processors, and what a process needs beside the model.
    private const double FlopsPerThread = 40e9;

    // The same of a small present card.
    private const double FlopsPerCard = 10e12;
    private const double Overhead = 1.5;
    private const long RuntimeBytes = 90_000_000;
    // What a budget in bytes leaves for a weight is known only with the model at hand.
    private const double UsualBits = 4;

    // A budget's plan takes a calibration with every candidate and some trials before the work itself.
    private const double BudgetFactor = 8;
    private const double BytesPerToken = 3.7;

    /// <summary>The estimate of one cell.</summary>
    public static CellEstimate Of(StudyModel model, StudyMethod method, Study study, EvaluationText? text)
    {
        ModelSizes sizes = ModelSizes.Of(ModelConfig.Open(model.Path));
        double flops = IsOnCard(study) ? FlopsPerCard : FlopsPerThread * (study.Threads ?? Environment.ProcessorCount);
        EvaluationOptions tasks = study.Tasks;
        double flopsPerToken = 2.0 * (sizes.Parameters.Blocks + ((double)sizes.Facts.Vocabulary * sizes.Facts.Hidden));
        double tokens = tasks.Tasks.Contains("perplexity") && text is not null ? Tokens(tasks, text, sizes.Facts.Context) : 0;
        double decoded = tasks.Tasks.Contains("latency") ? (tasks.Runs + 1) * (tasks.PromptTokens + (4.0 * tasks.DecodeTokens)) : 0;
        // Calibration runs each sample through each block twice, and the Gram matrices and the solver cost about as much again.
        double calibrated = method.NeedsCalibration ? 4.0 * (method.Budget is null ? 1 : BudgetFactor) * study.Calibration.Samples * (study.Calibration.Length ?? Math.Min(512, sizes.Facts.Context)) : 0;
        double seconds = Overhead + ((tokens + decoded + calibrated) * flopsPerToken / flops);
        double bytes = (sizes.Parameters.Blocks * BitsOf(method) / 8) + ((sizes.Parameters.Total - sizes.Parameters.Blocks) * DenseBits(method) / 8);
        return new CellEstimate(seconds, RuntimeBytes + (long)bytes);
    }

    /// <summary>What times are reckoned by, in words.</summary>
    public static string Rate(Study study) => IsOnCard(study) ? "10 TFLOP/s of a card" : "40 GFLOP/s a thread";

    /// <summary>Bits of a weight in a block, scales included.</summary>
    internal static double BitsOf(StudyMethod method) => method.Budget is { } budget ? budget.BitsPerWeight ?? UsualBits : method.Settings switch
    {
        null => DenseBits(method),
        { Method: "ternary" } => 2,
        { Method: "nf4" or "fp4", DoubleQuant: true } => 4.13,
        { Method: "nf4" or "fp4" } => 4.5,
        QuantizationSettings settings => (settings.Bits ?? 8) + (settings.GroupSize is > 0 and { } group ? 32.0 / group : 0.1),
    };

    private static bool IsOnCard(Study study) => study.Device.StartsWith("cuda", StringComparison.Ordinal);

    private static double DenseBits(StudyMethod method) => method.Dtype is "f32" ? 32 : 16;

    // Tokens that pass through the model: windows overlap by window − stride.
    private static double Tokens(EvaluationOptions tasks, EvaluationText text, int context)
    {
        double tokens = Math.Min(tasks.Limit ?? double.MaxValue, text.Documents.Sum(document => (double)document.Length) / BytesPerToken);
        double window = tasks.Window ?? Math.Min(1024, context);
        return tasks.Protocol == "window" ? tokens * window / (tasks.Stride ?? (window / 2)) : tokens;
    }
}
