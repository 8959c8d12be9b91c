using System.Globalization;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>How numbers are written for people.</summary>
internal static class ReportTable
{
    private static readonly string[] Wanted =
    [
        "accuracy", "macro_f1", "accuracy_delta", "mcnemar_p", "unparsed_rows",
        "perplexity", "perplexity_ratio", "kl", "top1_agreement", "bits_per_byte", "bits_per_weight", "weight_bytes", "peak_memory_bytes",
        "decode_tokens_per_second", "prefill_tokens_per_second", "ttft_ms", "quantization_seconds", "evaluation_seconds", "energy_joules", "energy_total_joules", "energy_idle_watts", "co2eq_grams",
    ];

    /// <summary>The columns that at least one cell has.</summary>
    public static IReadOnlyList<MetricInfo> Columns(IReadOnlyList<ResultDocument> cells) =>
        [.. Wanted.Where(name => cells.Any(cell => cell.Metrics.ContainsKey(name))).Select(name => MetricInfo.Find(name)!)];

    /// <summary>True if more than one model is in the study.</summary>
    public static bool ManyModels(StudyResults results) => results.Cells.Select(cell => cell.Model).Distinct().Skip(1).Any();

    /// <summary>How a cell is called in tables.</summary>
    public static string Label(ResultDocument cell) => cell.Label ?? cell.Method;

    /// <summary>The heading of a column, with the unit of its numbers.</summary>
    public static string Heading(MetricInfo metric)
    {
        string unit = metric switch
        {
            { Unit: "bytes" } => "MB",
            { Name: "co2eq_grams" } => "mg",
            _ => metric.Unit,
        };
        return unit.Length == 0 || unit == "bits" ? metric.Label : $"{metric.Label}, {unit}";
    }

    /// <summary>A number as people want to read it, without its unit.</summary>
    public static string Number(MetricInfo metric, double value) => metric switch
    {
        _ when IsCount(metric.Name) => value.ToString("#,0", CultureInfo.InvariantCulture),
        { Unit: "bytes" } => Significant(value / 1e6, 3),
        { Unit: "%" } => Significant(value * 100, 3),
        { Name: "co2eq_grams" } => Significant(value * 1000, 3),
        { Unit: "nats/token", Name: not "nll_delta" } or { Name: "perplexity" or "perplexity_before" or "bits_per_byte" or "perplexity_ratio" } => Significant(value, 4),
        _ => Significant(value, 3),
    };

    private static bool IsCount(string name) => name is "steps" or "planned_steps" or "steps_per_point" or "latency_runs"
        || name.EndsWith("_tokens", StringComparison.Ordinal) || name.EndsWith("_rows", StringComparison.Ordinal) || name.EndsWith("_parameters", StringComparison.Ordinal);

    /// <summary>A cell's number, or a dash where it was not measured.</summary>
    public static string Number(ResultDocument cell, MetricInfo metric) =>
        cell.Metrics.TryGetValue(metric.Name, out double value) ? Number(metric, value) : "–";

    /// <summary>A cell's interval, or null where there is none.</summary>
    public static string? Interval(ResultDocument cell, MetricInfo metric) =>
        cell.Intervals.TryGetValue(metric.Name, out double[]? ends) ? $"{Number(metric, ends[0])} – {Number(metric, ends[1])}" : null;

    /// <summary>A number with some significant digits, whole numbers with thousands separators.</summary>
    public static string Significant(double value, int digits)
    {
        if (value == 0 || !double.IsFinite(value))
        {
            return value.ToString("0", CultureInfo.InvariantCulture);
        }

        int decimals = digits - 1 - (int)Math.Floor(Math.Log10(Math.Abs(value)));
        return decimals > 6
            ? value.ToString("0.##e+0", CultureInfo.InvariantCulture)
            : value.ToString(decimals <= 0 ? "#,0" : "0." + new string('0', decimals), CultureInfo.InvariantCulture);
    }

    /// <summary>What was the same for all cells, as pairs of name and value; what differs is left out.</summary>
    public static IReadOnlyList<(string Name, string Value)> Conditions(StudyResults results)
    {
        (string Name, Func<ResultDocument, string?> Get)[] all =
        [
            ("model", cell => cell.Model), ("data", cell => cell.Data), ("data SHA-256", cell => cell.DataSha256), ("protocol", cell => cell.Protocol),
            ("scored tokens", cell => cell.Metrics.TryGetValue("scored_tokens", out double tokens) ? tokens.ToString("#,0", CultureInfo.InvariantCulture) : null),
            ("tokenizer SHA-256", cell => cell.TokenizerSha256), ("device", cell => cell.Device), ("kernels", cell => cell.Kernels),
            ("threads", cell => $"{cell.Threads}"), ("compute dtype", cell => cell.ComputeDtype), ("activations", cell => cell.ActivationDtype),
            ("sequences in a pass", cell => $"{cell.Batch}"), ("seed", cell => $"{cell.Seed}"),
            ("energy", cell => cell.EnergyDescription ?? cell.EnergySource), ("carbon intensity", cell => cell.CarbonSource), ("peak memory", cell => cell.MemorySource),
            ("processor", cell => $"{cell.Environment.Cpu} ({cell.Environment.Cores} logical)"), ("GPU", cell => cell.Environment.Gpu),
            ("Nibble", cell => cell.Environment.Nibble + (cell.Environment.Commit is { } commit ? $" ({commit[..Math.Min(10, commit.Length)]})" : string.Empty)),
            (".NET", cell => cell.Environment.Dotnet), ("system", cell => cell.Environment.Os),
        ];
        return [.. all
            .Select(item => (item.Name, Values: results.Cells.Select(item.Get).OfType<string>().Distinct().ToArray()))
            .Where(item => item.Values.Length > 0)
            .Select(item => (item.Name, item.Values.Length == 1 ? item.Values[0] : string.Join("; ", item.Values) + " (differs between cells)"))];
    }
}
