using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using Nibble.Evaluation.Metrics;
using Nibble.Runs;
using Nibble.Runs.Reports;

namespace Nibble.Server.Dashboard;

/// <summary>A run in a line of the list.</summary>
internal sealed record RunSummary
{
    public required long Id { get; init; }

    public required string Kind { get; init; }

    public required string Status { get; init; }

    public required string Model { get; init; }

    public required string Method { get; init; }

    /// <summary>How its study calls the method; else the method with its bits.</summary>
    public string? Label { get; init; }

    public string? Study { get; init; }

    public required string Started { get; init; }

    public string? Finished { get; init; }

    /// <summary>Seconds from start to end, or to now.</summary>
    public double? Seconds { get; init; }

    public double? Progress { get; init; }

    /// <summary>Seconds that are left, by the speed so far.</summary>
    public double? SecondsLeft { get; init; }

    public long? Step { get; init; }

    public long? Steps { get; init; }

    public string? Output { get; init; }

    public string? Note { get; init; }

    public long? Resumes { get; init; }

    /// <summary>The number that says most, and its heading.</summary>
    public string? Result { get; init; }

    public string? ResultHeading { get; init; }

    public double? ResultValue { get; init; }

    /// <summary>A few points of the training loss.</summary>
    public double[]? Course { get; init; }
}

/// <summary>Makes summaries; those of runs that have ended are kept, as nothing changes in them.</summary>
internal sealed class RunSummaries
{
    private const int CoursePoints = 40, MostKept = 5000;

    private static readonly string[] Headlines = ["heldout_nll_after", "heldout_nll", "train_loss", "perplexity", "accuracy", "macro_f1", "decode_tokens_per_second", "bits_per_weight"];

    private readonly ConcurrentDictionary<(long Id, string Started, string Finished), RunSummary> _kept = new();

    /// <summary>The summary of a run.</summary>
    public RunSummary Of(RunStore store, RunRecord run)
    {
        if (run.Finished is not { } finished)
        {
            return Make(store, run);
        }

        if (_kept.Count > MostKept)
        {
            _kept.Clear();
        }

        return _kept.GetOrAdd((run.Id, run.Started, finished), _ => Make(store, run));
    }

    private static RunSummary Make(RunStore store, RunRecord run)
    {
        IReadOnlyList<RunMetric> loss = run.Kind == "finetune" ? store.Metric(run.Id, "train_loss") : [];
        IReadOnlyList<RunMetric> time = loss.Count > 0 && run.Status == RunRecord.Running ? store.Metric(run.Id, "elapsed_seconds") : [];
        double? steps = store.Metric(run.Id, "planned_steps").FirstOrDefault()?.Value;
        RunMetric? headline = Headlines.Select(name => store.Metric(run.Id, name).LastOrDefault()).FirstOrDefault(metric => metric is not null);
        MetricInfo? info = headline is null ? null : RunCurve.Info(headline.Name);
        DateTime? end = run.Status == RunRecord.Running ? DateTime.UtcNow : Time(run.Finished ?? run.Beat);
        string? study = Study(run.Configuration);
        return new RunSummary
        {
            Id = run.Id, Kind = run.Kind, Status = run.Status, Model = run.Model, Method = run.Method, Label = RunName.Of(run), Study = study, Started = run.Started, Finished = run.Finished,
            Seconds = Took(store, run, end),
            Progress = run.Progress, SecondsLeft = run.Status == RunRecord.Running ? Left(run, time, steps) : null,
            Step = loss.Count > 0 ? loss[^1].Step : null, Steps = (long?)steps, Output = run.Output, Note = run.Note, Resumes = run.Resumes,
            Result = headline is null ? null : ReportTable.Number(info!, headline.Value), ResultHeading = info is null ? null : ReportTable.Heading(info), ResultValue = headline?.Value,
            Course = loss.Count > 1 ? RunCurve.Thin([.. loss.Select(point => point.Value)], CoursePoints) : null,
        };
    }

    // A measurement is recorded when it has ended; what it says itself is how long its tasks took.
    private static double? Took(RunStore store, RunRecord run, DateTime? end) => run.Kind is "eval" or "compare"
        ? new[] { "evaluation_seconds", "classification_seconds" }.Select(name => store.Metric(run.Id, name).FirstOrDefault()?.Value).Sum() is > 0 and var seconds ? seconds : null
        : Time(run.Started) is { } start && end is { } last ? Math.Max(0, (last - start).TotalSeconds) : null;

    // By the newest quarter of the points: the first steps, and those of an earlier process, tell less.
    private static double? Left(RunRecord run, IReadOnlyList<RunMetric> time, double? steps)
    {
        if (time.Count > 1 && steps is { } all)
        {
            RunMetric from = time[Math.Min(time.Count - 2, time.Count * 3 / 4)], to = time[^1];
            return (all - to.Step) * (to.Value - from.Value) / Math.Max(1, to.Step - from.Step);
        }

        return run.Progress is > 0.02 and { } share && Time(run.Started) is { } start && run.Kind != "finetune" ? (DateTime.UtcNow - start).TotalSeconds * (1 - share) / share : null;
    }

    private static DateTime? Time(string? text) =>
        DateTime.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal | DateTimeStyles.AssumeUniversal, out DateTime time) ? time : null;

    private static string? Study(string configuration)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(configuration);
            return document.RootElement.ValueKind == JsonValueKind.Object && document.RootElement.TryGetProperty("study", out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
