using System.Globalization;
using Nibble.Evaluation;

namespace Nibble.Runs.Reports;

/// <summary>An answer that a study gives, and the numbers behind it.</summary>
/// <param name="Question">What people ask.</param>
/// <param name="Answer">The method.</param>
/// <param name="Reason">Its numbers.</param>
public sealed record Finding(string Question, string Answer, string Reason);

/// <summary>The few sentences that stand above a report's tables; each follows from the numbers alone.</summary>
public static class Findings
{
    // A perplexity at most 2 % above the baseline's is what most users do not notice.
    private const double SmallLoss = 1.02;

    // A model that has lost more than this is not worth its speed.
    private const double UsableLoss = 1.10;

    /// <summary>The answers that the cells of a study allow.</summary>
    public static IReadOnlyList<Finding> Of(IReadOnlyList<ResultDocument> cells)
    {
        ResultDocument[] compared = [.. cells.Where(cell => cell.Metrics.ContainsKey("perplexity_ratio") && cell.Metrics.ContainsKey("weight_bytes"))];
        List<Finding?> findings =
        [
            Smallest(cells, compared),
            BestAtFourBits(compared),
            Fastest(cells),
        ];
        return [.. findings.OfType<Finding>()];
    }

    private static Finding? Smallest(IReadOnlyList<ResultDocument> cells, ResultDocument[] compared)
    {
        // The upper end of the paired interval counts, not the point.
        ResultDocument? best = compared
            .Where(cell => cell.Intervals.TryGetValue("perplexity_ratio", out double[]? ends) && ends[1] <= SmallLoss)
            .MinBy(cell => cell.Metrics["weight_bytes"]);
        ResultDocument? baseline = cells.FirstOrDefault(cell => cell.Baseline == true && cell.Model == best?.Model);
        return best is null ? null : new Finding(
            "Smallest with at most 2 % more perplexity",
            Name(best, cells),
            string.Create(CultureInfo.InvariantCulture, $"{best.Metrics["weight_bytes"] / 1e6:0.0} MB of weights{Times(baseline, best)}; perplexity × {best.Metrics["perplexity_ratio"]:0.0000} (95 %: {best.Intervals["perplexity_ratio"][0]:0.000} to {best.Intervals["perplexity_ratio"][1]:0.000})"));
    }

    private static Finding? BestAtFourBits(ResultDocument[] compared)
    {
        ResultDocument? best = compared.Where(cell => cell.Bits <= 4).MinBy(cell => cell.Metrics["perplexity_ratio"]);
        return best is null ? null : new Finding(
            "Best quality at 4 bits or less",
            Name(best, compared),
            string.Create(CultureInfo.InvariantCulture, $"perplexity {best.Metrics["perplexity"]:0.000}, × {best.Metrics["perplexity_ratio"]:0.0000} of the baseline{Interval(best)}; {best.Metrics.GetValueOrDefault("bits_per_weight"):0.00} bits a weight"));
    }

    private static string Interval(ResultDocument cell) => cell.Intervals.TryGetValue("perplexity_ratio", out double[]? ends)
        ? string.Create(CultureInfo.InvariantCulture, $" (95 %: {ends[0]:0.000} to {ends[1]:0.000})")
        : string.Empty;

    private static Finding? Fastest(IReadOnlyList<ResultDocument> cells)
    {
        const string speed = "decode_tokens_per_second";
        ResultDocument? best = cells
            .Where(cell => cell.Metrics.ContainsKey(speed) && (cell.Baseline == true || cell.Metrics.GetValueOrDefault("perplexity_ratio", 1) <= UsableLoss))
            .MaxBy(cell => cell.Metrics[speed]);
        ResultDocument? baseline = cells.FirstOrDefault(cell => cell.Baseline == true && cell.Model == best?.Model && cell.Metrics.ContainsKey(speed));
        if (best is null)
        {
            return null;
        }

        string against = baseline is null || baseline == best ? string.Empty
            : string.Create(CultureInfo.InvariantCulture, $", × {best.Metrics[speed] / baseline.Metrics[speed]:0.00} of the baseline");
        return new Finding(
            "Fastest decoding with at most 10 % more perplexity",
            Name(best, cells),
            string.Create(CultureInfo.InvariantCulture, $"{best.Metrics[speed]:0} tokens/s{against} (median of {best.Metrics.GetValueOrDefault("latency_runs", 1):0} runs, one sequence, {best.Kernels} kernels, {best.Threads} threads, {best.ActivationDtype} activations)"));
    }

    private static string Times(ResultDocument? baseline, ResultDocument cell) => baseline is null ? string.Empty
        : string.Create(CultureInfo.InvariantCulture, $", {baseline.Metrics["weight_bytes"] / cell.Metrics["weight_bytes"]:0.0} times less than {ReportTable.Label(baseline)}");

    private static string Name(ResultDocument cell, IReadOnlyList<ResultDocument> cells) =>
        cells.Any(other => other.Model != cell.Model) ? $"{cell.Model}, {ReportTable.Label(cell)}" : ReportTable.Label(cell);
}
