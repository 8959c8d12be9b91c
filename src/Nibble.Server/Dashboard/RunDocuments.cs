using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;
using Nibble.IO;
using Nibble.Runs;

namespace Nibble.Server.Dashboard;

/// <summary>The documents of the dashboard: runs, one run, several runs side by side.</summary>
internal sealed class RunDocuments(string path)
{
    private const int MostListed = 500, MostCompared = 20, PagePoints = 500;

    private readonly RunSummaries _summaries = new();

    /// <summary>Names in snake case, absent values left out.</summary>
    public static JsonSerializerOptions Json { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        // It is read as JSON, never put into a page as it is.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>File of the store.</summary>
    public string Path => path;

    /// <summary>The newest runs that a query wants, in short.</summary>
    public object List(IQueryCollection query)
    {
        int limit = (int)Number(query, "limit", 100, 1, MostListed);
        RunFilter filter = new()
        {
            Kind = Text(query, "kind"), Model = Text(query, "model"), Method = Text(query, "method"), Status = Text(query, "status"), Text = Text(query, "text"),
            Before = query.ContainsKey("before") ? Number(query, "before", 0, 0, long.MaxValue) : null,
        };
        if (filter.Status is { } status && !RunRecord.Statuses.Contains(status))
        {
            Throw.Usage($"status {status}", $"there are {string.Join(", ", RunRecord.Statuses)}");
        }

        // Whoever only looks makes no file.
        if (!File.Exists(path))
        {
            return new { Schema = 1, Store = path, Runs = Array.Empty<object>(), More = false, Kinds = Array.Empty<string>(), Models = Array.Empty<string>(), Methods = Array.Empty<string>(), RunRecord.Statuses };
        }

        using RunStore store = RunStore.Open(path);
        IReadOnlyList<RunRecord> runs = store.List(limit + 1, filter);
        return new
        {
            Schema = 1,
            Store = path,
            Runs = runs.Take(limit).Select(run => _summaries.Of(store, run)),
            More = runs.Count > limit,
            Kinds = store.Distinct("kind"),
            Models = store.Distinct("model"),
            Methods = store.Distinct("method"),
            RunRecord.Statuses,
        };
    }

    /// <summary>One run with everything.</summary>
    public object Run(long id, IQueryCollection query)
    {
        int points = Text(query, "points") == "all" ? int.MaxValue : (int)Number(query, "points", PagePoints, 2, 100_000);
        using RunStore store = Open(id);
        RunRecord run = Find(store, id);
        IGrouping<string, RunMetric>[] metrics = [.. store.Metrics(id).GroupBy(metric => metric.Name).OrderBy(group => RunCurve.Place(group.Key))];
        RunMetric[] time = [.. metrics.Where(group => group.Key == "elapsed_seconds").SelectMany(group => group).OrderBy(point => point.Step)];
        return new
        {
            Schema = 1,
            Run = _summaries.Of(store, run),
            Configuration = RunRecord.Document(run.Configuration),
            Environment = RunRecord.Document(run.Environment),
            Results = metrics.Where(group => !IsCurve(group)).Select(group => RunNumbers.Result(group.First())),
            Curves = metrics.Where(IsCurve).Select(group => RunNumbers.Curve(group.Key, [.. group.OrderBy(point => point.Step)], points, time)),
            Artefacts = store.Artefacts(id).Select(file => new { file.Name, file.Path, file.Bytes, Exists = File.Exists(file.Path) }),
            Report = ReportOf(store, id) is null ? null : $"/runs/{id}/report.html",
            ResumedBy = store.ResumedBy(id),
        };
    }

    /// <summary>Several runs side by side; the first, or <c>baseline</c>, is what the others are compared with.</summary>
    public object Compare(IQueryCollection query)
    {
        long[] ids = [.. (Text(query, "ids") ?? string.Empty).Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(text =>
            long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long id) ? id : throw new NibbleException(ErrorKind.Usage, $"'{text}' is no number of a run")).Distinct()];
        if (ids.Length is < 2 or > MostCompared)
        {
            Throw.Usage($"{ids.Length} runs", $"2 to {MostCompared} are compared", "for example ids=3,5");
        }

        using RunStore store = Open(ids[0]);
        RunRecord[] runs = [.. ids.Select(id => Find(store, id))];
        long baseline = query.ContainsKey("baseline") ? Number(query, "baseline", 0, 0, long.MaxValue) : ids[0];
        if (!ids.Contains(baseline))
        {
            Throw.Usage($"baseline {baseline}", "it is not one of the runs that are compared", "name one of ids");
        }

        return RunComparison.Of([.. runs.Select(run => new ComparedRun(run, _summaries.Of(store, run), store.Metrics(run.Id)))], baseline, PagePoints);
    }

    /// <summary>The report of a run: the recorded file, if it is still one; null else.</summary>
    public string? Report(long id)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        using RunStore store = RunStore.Open(path);
        return ReportOf(store, id);
    }

    // Only what a study recorded under this name, and only a file of this name: no path comes from a request.
    private static string? ReportOf(RunStore store, long id) => store.Artefacts(id)
        .FirstOrDefault(file => file.Name == "report.html" && System.IO.Path.IsPathFullyQualified(file.Path) && System.IO.Path.GetFileName(file.Path) == "report.html" && new FileInfo(file.Path) is { Exists: true, LinkTarget: null })?.Path;

    private static bool IsCurve(IGrouping<string, RunMetric> group) => group.Any(metric => metric.Step > 0);

    private RunStore Open(long id) => File.Exists(path) ? RunStore.Open(path) : throw NotFound(id);

    private static RunRecord Find(RunStore store, long id) => store.Find(id) ?? throw NotFound(id);

    private static NibbleException NotFound(long id) => new(ErrorKind.NotFound, $"there is no run {id}");

    private static string? Text(IQueryCollection query, string name) => query[name].ToString() is { Length: > 0 } text ? text : null;

    private static long Number(IQueryCollection query, string name, long otherwise, long least, long most)
    {
        if (Text(query, name) is not { } text)
        {
            return otherwise;
        }

        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) && number >= least && number <= most
            ? number
            : throw new NibbleException(ErrorKind.Usage, $"{name} {text}", $"it is a number from {least} to {most}");
    }
}
