using Nibble.Evaluation.Metrics;
using Nibble.Runs;
using Nibble.Runs.Reports;

namespace Nibble.Server.Dashboard;

/// <summary>Numbers of runs with what a page needs to show them: heading with unit, direction, text.</summary>
internal static class RunNumbers
{
    /// <summary>A number that has no steps.</summary>
    public static object Result(RunMetric metric)
    {
        MetricInfo info = RunCurve.Info(metric.Name);
        return new
        {
            metric.Name, Heading = ReportTable.Heading(info), info.Meaning, Better = Direction(info), metric.Value, Text = ReportTable.Number(info, metric.Value),
            metric.Low, metric.High, Interval = Interval(info, metric),
        };
    }

    /// <summary>A number by steps, with at most so many points: then each is the mean of its neighbours, at the last of their steps. With the seconds by steps each has its time, too.</summary>
    public static object Curve(string name, IReadOnlyList<RunMetric> points, int most, IReadOnlyList<RunMetric> time)
    {
        double[][] thin = Thin(points, most);
        MetricInfo info = RunCurve.Info(name);
        RunMetric? best = info.Better switch { Better.Lower => points.MinBy(point => point.Value), Better.Higher => points.MaxBy(point => point.Value), _ => null };
        return new
        {
            Name = name, Heading = ReportTable.Heading(info), info.Meaning, Better = Direction(info), Count = points.Count,
            First = Point(info, points[0]), Best = best is null ? null : Point(info, best), Last = Point(info, points[^1]), Scale = Scale(info), Points = thin,
            Seconds = time.Count == 0 ? null : thin.Select(point => SecondsAt(time, point[0])),
        };
    }

    /// <summary>Step and value of each point.</summary>
    public static double[][] Thin(IReadOnlyList<RunMetric> points, int most)
    {
        if (points.Count <= most)
        {
            return [.. points.Select(point => new[] { point.Step, point.Value })];
        }

        double[] values = RunCurve.Thin([.. points.Select(point => point.Value)], most);
        return [.. values.Select((value, i) => new[] { points[(int)(((long)(i + 1) * points.Count / most) - 1)].Step, value })];
    }

    /// <summary>The interval as text, or null.</summary>
    public static string? Interval(MetricInfo info, RunMetric metric) =>
        metric is { Low: { } low, High: { } high } ? $"{ReportTable.Number(info, low)} – {ReportTable.Number(info, high)}" : null;

    /// <summary>lower, higher or neither.</summary>
    public static string Direction(MetricInfo info) => info.Better.ToString().ToLowerInvariant();

    /// <summary>What values are multiplied by to be in the unit of the heading.</summary>
    public static double Scale(MetricInfo info) => info switch { { Unit: "bytes" } => 1e-6, { Unit: "%" } => 100, { Name: "co2eq_grams" } => 1000, _ => 1 };

    // Curves have steps of their own (evaluations, memory once a second), of which the clock's need not have any.
    private static double SecondsAt(IReadOnlyList<RunMetric> time, double step)
    {
        int low = 0, high = time.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = time[middle].Step < step ? (middle + 1, high) : (low, middle);
        }

        if (low == time.Count)
        {
            return time[^1].Value;
        }

        (double from, double begun) = low == 0 ? (0, 0) : (time[low - 1].Step, time[low - 1].Value);
        double share = time[low].Step > from ? (step - from) / (time[low].Step - from) : 1;
        return begun + (share * (time[low].Value - begun));
    }

    private static object Point(MetricInfo info, RunMetric point) => new { point.Step, point.Value, Text = ReportTable.Number(info, point.Value) };
}
