using System.Globalization;
using System.Text;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.Tuning;

/// <summary>What stays of a training beside its weights: one JSON object a step, and the loss as a picture.</summary>
internal static class TrainingLog
{
    private const int Width = 720, Height = 300, Margin = 48;

    private static readonly JsonSerializerOptions Options = DocumentJson.Known(new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull,
    });

    public static void Write(string folder, TrainHistory history)
    {
        List<StepReport> log = history.Steps;
        StringBuilder lines = new();
        ILookup<int, EvaluationReport> evaluations = history.Evaluations.ToLookup(evaluation => evaluation.Step);
        AppendEvaluations(lines, evaluations[0]);
        foreach (StepReport step in log)
        {
            lines.Append(DocumentJson.Text(step, Options)).Append('\n');
            AppendEvaluations(lines, evaluations[step.Step]);
        }

        AtomicFile.WriteAllText(Path.Combine(folder, "training_log.jsonl"), lines.ToString());
        if (log.Count > 0)
        {
            AtomicFile.WriteAllText(Path.Combine(folder, "loss.svg"), Svg(log, history.Evaluations));
        }
    }

    private static void AppendEvaluations(StringBuilder lines, IEnumerable<EvaluationReport> evaluations)
    {
        foreach (EvaluationReport evaluation in evaluations)
        {
            lines.Append(DocumentJson.Text(new EvaluationLine(evaluation.Step, evaluation.Loss, evaluation.Accuracy, evaluation.MacroF1), Options)).Append('\n');
        }
    }

    private static string Svg(List<StepReport> log, List<EvaluationReport> evaluations)
    {
        double[] losses = [.. log.Select(step => step.Loss), .. evaluations.Select(evaluation => evaluation.Loss)];
        (double low, double high) = (losses.Min(), losses.Max());
        double range = Math.Max(high - low, 1e-9);
        int first = Math.Min(log[0].Step, evaluations.Count > 0 ? evaluations[0].Step : int.MaxValue), last = Math.Max(log[^1].Step, first + 1);
        string Place(int step, double loss) => string.Create(
            CultureInfo.InvariantCulture,
            $"{Margin + ((Width - (2.0 * Margin)) * (step - first) / (last - first)):F1},{Margin + ((Height - (2.0 * Margin)) * (high - loss) / range):F1}");
        string points = string.Join(' ', log.Select(step => Place(step.Step, step.Loss)));
        string heldOut = string.Join(' ', evaluations.Select(evaluation => Place(evaluation.Step, evaluation.Loss)));
        return string.Create(
            CultureInfo.InvariantCulture,
            $"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" font-family="sans-serif" font-size="12">
            <rect width="{Width}" height="{Height}" fill="white"/>
            <path d="M{Margin} {Margin}V{Height - Margin}H{Width - Margin}" fill="none" stroke="#888"/>
            <polyline points="{points}" fill="none" stroke="#0a58ca" stroke-width="1.5"/>
            <polyline points="{heldOut}" fill="none" stroke="#c2410c" stroke-width="1.5" stroke-dasharray="4 3"/>
            <text x="8" y="{Margin + 4}">{high:F3}</text><text x="8" y="{Height - Margin}">{low:F3}</text>
            <text x="{Margin}" y="{Height - 24}">step {first}</text><text x="{Width - Margin}" y="{Height - 24}" text-anchor="end">{last}</text>
            <text x="{Width / 2}" y="24" text-anchor="middle">training loss (blue), held-out loss (dashed), nats</text>
            </svg>

            """);
    }
}

/// <summary>A line of the log about held-out rows.</summary>
internal sealed record EvaluationLine(int Step, double EvalLoss, double? EvalAccuracy, double? EvalMacroF1);
