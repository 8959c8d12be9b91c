using Nibble.Evaluation.Metrics;

namespace Nibble.Runs;

/// <summary>Curves of runs for people: what a number is, and its course in a few characters or points.</summary>
internal static class RunCurve
{
    private const string Levels = "▁▂▃▄▅▆▇█";

    private static readonly Dictionary<string, int> Places = MetricInfo.All.Index().ToDictionary(item => item.Item.Name, item => item.Index);

    /// <summary>What a metric is; one that this version does not know has its name for a label.</summary>
    public static MetricInfo Info(string name) => Places.TryGetValue(name, out int place) ? MetricInfo.All[place]
        : new MetricInfo(name, name, name.StartsWith("phase_seconds.", StringComparison.Ordinal) ? "s" : string.Empty, Better.Neither, string.Empty);

    /// <summary>Where a metric stands in tables.</summary>
    public static int Place(string name) => Places.GetValueOrDefault(name, int.MaxValue);

    /// <summary>At most so many of the values: means of neighbours, so that nothing of the course depends on which points were taken.</summary>
    public static double[] Thin(IReadOnlyList<double> values, int most)
    {
        if (values.Count <= most)
        {
            return [.. values];
        }

        return [.. Enumerable.Range(0, most).Select(i =>
        {
            int from = (int)((long)i * values.Count / most), to = (int)((long)(i + 1) * values.Count / most);
            return values.Skip(from).Take(to - from).Average();
        })];
    }

    /// <summary>The course as a row of bars, from the smallest value to the largest.</summary>
    public static string Spark(IReadOnlyList<double> values, int width = 32)
    {
        double[] thin = Thin([.. values.Where(double.IsFinite)], width);
        if (thin.Length < 2)
        {
            return string.Empty;
        }

        (double low, double high) = (thin.Min(), thin.Max());
        return string.Concat(thin.Select(value => high > low ? Levels[(int)Math.Min(Levels.Length - 1, (value - low) / (high - low) * Levels.Length)] : Levels[0]));
    }
}
