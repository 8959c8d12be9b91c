using System.Globalization;
using Nibble.Evaluation.Metrics;
using Nibble.Runs;
using Nibble.Runs.Reports;

namespace Nibble.Server.Dashboard;

/// <summary>One of the runs that stand side by side.</summary>
internal sealed record ComparedRun(RunRecord Run, RunSummary Summary, IReadOnlyList<RunMetric> Metrics)
{
    /// <summary>Configuration and environment, path by path.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; } = RunConditions.Flatten(Run);

    /// <summary>What must be equal for numbers to be compared.</summary>
    public IReadOnlyList<(string Name, NumberGroup Group, string? Value)> Conditions { get; } = RunConditions.Of(Run, Metrics);

    /// <summary>The number of this name, of a curve the newest one; null if there is none.</summary>
    public RunMetric? Result(string name) => Metrics.LastOrDefault(metric => metric.Name == name);

    /// <summary>Whether a metric has steps.</summary>
    public bool IsCurve(string name) => Metrics.Any(metric => metric.Name == name && metric.Step > 0);

    /// <summary>The conditions that forbid to compare a number with that of another run. In one study the activations are part of the method (LLM.int8), as in its report.</summary>
    public string[] Differences(ComparedRun other, MetricInfo info) =>
        [.. Conditions.Zip(other.Conditions)
            .Where(pair => pair.First.Value != pair.Second.Value && RunConditions.Matters(pair.First.Name, pair.First.Group, info) && !(pair.First.Name == "activation dtype" && IsOfStudy(other)))
            .Select(pair => pair.First.Name)];

    /// <summary>Whether both are cells of one study about one model.</summary>
    public bool IsOfStudy(ComparedRun other) => Run.Kind == "compare" && other.Run.Kind == "compare" && Run.Output is { } output && output == other.Run.Output && Run.Model == other.Run.Model;
}

/// <summary>
/// Runs side by side. A number is compared with the baseline's only where what it depends on was equal; else it stands there without a
/// difference, and says why.
/// </summary>
internal static class RunComparison
{
    public static object Of(IReadOnlyList<ComparedRun> runs, long baseline, int points)
    {
        ComparedRun first = runs.Single(run => run.Run.Id == baseline);
        return new
        {
            Schema = 1,
            Baseline = baseline,
            Runs = runs.Select(run => run.Summary),
            Conditions = Conditions(runs),
            Metrics = Metrics(runs, first),
            Curves = Curves(runs, first, points),
            Scatter = Scatter(runs, first),
            Settings = Settings(runs),
        };
    }

    private static IEnumerable<object> Conditions(IReadOnlyList<ComparedRun> runs) => Enumerable.Range(0, runs[0].Conditions.Count)
        .Select(i => (runs[0].Conditions[i].Name, runs[0].Conditions[i].Group, Values: runs.Select(run => run.Conditions[i].Value).ToArray()))
        .Where(row => row.Values.Any(value => value is not null))
        .Select(row => new { row.Name, Affects = Name(row.Group), Differs = row.Values.Distinct().Skip(1).Any(), row.Values });

    private static IEnumerable<object> Metrics(IReadOnlyList<ComparedRun> runs, ComparedRun baseline) => runs
        .SelectMany(run => run.Metrics.Select(metric => metric.Name)).Distinct()
        .Select(RunCurve.Info)
        // Of curves only what tells of quality stands in the table: where each is now.
        .Where(info => runs.Any(run => run.Result(info.Name) is not null) && (RunConditions.GroupOf(info) == NumberGroup.Quality || !runs.Any(run => run.IsCurve(info.Name))))
        .OrderBy(RunConditions.GroupOf).ThenBy(info => RunCurve.Place(info.Name))
        .Select(info => new
        {
            info.Name, Heading = ReportTable.Heading(info) + (runs.Any(run => run.IsCurve(info.Name)) ? ", newest" : string.Empty), info.Meaning, Better = RunNumbers.Direction(info), Group = Name(RunConditions.GroupOf(info)),
            Values = runs.Select(run => Value(run, baseline, info)),
        });

    private static object? Value(ComparedRun run, ComparedRun baseline, MetricInfo info)
    {
        if (run.Result(info.Name) is not { } metric)
        {
            return null;
        }

        RunMetric? other = run == baseline ? null : baseline.Result(info.Name);
        string[] differences = other is null ? [] : run.Differences(baseline, info);
        bool compared = other is not null && differences.Length == 0 && info.Better != Better.Neither;
        return new
        {
            metric.Value, Text = ReportTable.Number(info, metric.Value), metric.Low, metric.High, Interval = RunNumbers.Interval(info, metric),
            Difference = compared ? Difference(info, metric.Value, other!.Value) : null,
            Verdict = compared ? Paired(run, baseline, info) ?? Verdict(info, metric, other!) : null,
            Paired = compared && Paired(run, baseline, info) is not null ? true : (bool?)null,
            NotCompared = info.Better != Better.Neither && differences.Length > 0 ? differences : null,
        };
    }

    private static string Difference(MetricInfo info, double value, double other)
    {
        double difference = value - other;
        string sign = difference < 0 ? "−" : difference > 0 ? "+" : "±";
        string text = sign + ReportTable.Number(info, Math.Abs(difference));
        return info.Unit == "%" || other == 0 ? text : string.Create(CultureInfo.InvariantCulture, $"{text} ({sign}{ReportTable.Significant(100 * Math.Abs(difference / other), 2)} %)");
    }

    // A study measured its cells on the same tokens as its baseline: that interval tells much smaller differences apart.
    private static string? Paired(ComparedRun run, ComparedRun baseline, MetricInfo info)
    {
        bool isPair = info.Name is "perplexity" or "nll" or "bits_per_byte" && baseline.Settings.GetValueOrDefault("baseline") == "true" && run.IsOfStudy(baseline);
        return !isPair || run.Result("perplexity_ratio") is not { Low: { } low, High: { } high } ? null : low > 1 ? "worse" : high < 1 ? "better" : "overlap";
    }

    // Intervals that overlap do not prove that two are equal, but nothing says that they differ.
    private static string Verdict(MetricInfo info, RunMetric metric, RunMetric other) => metric switch
    {
        _ when metric.Value == other.Value => "same",
        { Low: { } low, High: { } high } when other is { Low: { } otherLow, High: { } otherHigh } && low <= otherHigh && otherLow <= high => "overlap",
        _ => metric.Value < other.Value == (info.Better == Better.Lower) ? "better" : "worse",
    };

    private static IEnumerable<object> Curves(IReadOnlyList<ComparedRun> runs, ComparedRun baseline, int points) => runs
        .SelectMany(run => run.Metrics.Where(metric => metric.Step > 0).Select(metric => metric.Name)).Distinct()
        .Select(RunCurve.Info)
        .OrderBy(info => RunCurve.Place(info.Name))
        .Select(info => new
        {
            info.Name, Heading = ReportTable.Heading(info), info.Meaning, Scale = RunNumbers.Scale(info),
            Series = runs.Select(run => (Run: run, Points: run.Metrics.Where(metric => metric.Name == info.Name).ToArray())).Where(item => item.Points.Length > 0).Select(item => new
            {
                item.Run.Run.Id, Points = RunNumbers.Thin(item.Points, points),
                NotCompared = item.Run == baseline || item.Run.Differences(baseline, info) is not { Length: > 0 } differences ? null : differences,
            }),
        });

    /// <summary>Perplexity against bytes of weights; only of runs whose perplexity may be compared with the baseline's.</summary>
    private static object? Scatter(IReadOnlyList<ComparedRun> runs, ComparedRun baseline)
    {
        const string quality = "perplexity", size = "weight_bytes";
        MetricInfo info = RunCurve.Info(quality);
        ComparedRun[] known = [.. runs.Where(run => run.Result(quality) is not null && run.Result(size) is not null)];
        if (known.Length == 0)
        {
            return null;
        }

        ComparedRun anchor = known.Contains(baseline) ? baseline : known[0];
        ComparedRun[] shown = [.. known.Where(run => run == anchor || run.Differences(anchor, info).Length == 0)];
        HashSet<long> front = [.. shown.GroupBy(run => run.Run.Model).SelectMany(group =>
        {
            ComparedRun[] list = [.. group];
            return ParetoFront.Of([.. list.Select(run => (run.Result(size)!.Value, run.Result(quality)!.Value))]).Select(i => list[i].Run.Id);
        })];
        return new
        {
            Points = shown.Select(run => new { run.Run.Id, X = run.Result(size)!.Value, Y = run.Result(quality)!.Value, run.Result(quality)!.Low, run.Result(quality)!.High, Front = front.Contains(run.Run.Id) }),
            LeftOut = known.Except(shown).Select(run => new { run.Run.Id, Why = run.Differences(anchor, info) }),
        };
    }

    /// <summary>The settings that are not the same for all.</summary>
    private static IEnumerable<object> Settings(IReadOnlyList<ComparedRun> runs) => runs.SelectMany(run => run.Settings.Keys).Distinct().Order(StringComparer.Ordinal)
        .Select(name => new { Name = name, Values = runs.Select(run => run.Settings.GetValueOrDefault(name)).ToArray() })
        .Where(row => row.Values.Distinct().Skip(1).Any());

    private static string Name(NumberGroup group) => group.ToString().ToLowerInvariant();
}
