using System.Text.Json;
using System.Text.Json.Serialization;
using Nibble.Backends.Cpu;
using Nibble.Benchmarks;

namespace Nibble.Bench;

/// <summary>One figure: the median of several rounds, with their extremes.</summary>
internal sealed record Figure(string Bench, string Name, double Median, double Low, double High, string Unit, double? Share, string? ShareOf)
{
    /// <summary>All runs, where the middle is their mean and the extremes are its 95 % interval.</summary>
    public double[]? Runs { get; init; }
}

/// <summary>Collects figures; prints them to stderr as they come.</summary>
internal sealed class BenchReport(BenchOptions options)
{
    /// <summary>97.5 % quantile of Student's t by number of runs.</summary>
    private static readonly double[] Student = [0, 0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306];

    private readonly List<Figure> _figures = [];
    private string _bench = "";

    public static JsonSerializerOptions JsonOptions { get; } = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    public bool Failed { get; private set; }

    public void Begin(string bench) => _bench = bench;

    /// <summary>Adds a figure from its rounds; <paramref name="shares"/> are taken round by round, so that slow spells cancel.</summary>
    public void Add(string name, double[] rounds, string unit, double[]? shares = null, string? shareOf = null)
    {
        double[] sorted = [.. rounds.Order()];
        double? share = shares is null ? null : Median(shares);
        Figure figure = new(_bench, name, Median(rounds), sorted[0], sorted[^1], unit, share, shareOf);
        _figures.Add(figure);
        string suffix = share is null ? "" : $"   {share:P0} of {shareOf}";
        Console.Error.WriteLine($"{_bench,-12}{name,-44}{figure.Median,10:G4} {unit,-8} ({figure.Low:G4} to {figure.High:G4}){suffix}");
    }

    /// <summary>Adds the mean of runs with other seeds, and its 95 % interval (Student's t).</summary>
    public void AddMean(string name, double[] runs, string unit)
    {
        double mean = runs.Average(), half = HalfInterval(runs);
        _figures.Add(new Figure(_bench, name, mean, mean - half, mean + half, unit, null, null) { Runs = runs });
        Console.Error.WriteLine($"{_bench,-12}{name,-44}{mean,10:G5} {unit,-8} ({mean - half:G5} to {mean + half:G5})");
    }

    /// <summary>Half of the 95 % interval of the mean of runs (Student's t); 0 for a single one.</summary>
    public static double HalfInterval(double[] runs)
    {
        double mean = runs.Average();
        return runs.Length < 2 ? 0 : Student[Math.Min(runs.Length, Student.Length - 1)] * Math.Sqrt(runs.Sum(run => (run - mean) * (run - mean)) / (runs.Length - 1) / runs.Length);
    }

    /// <summary>Says whether a check passed.</summary>
    public void Check(string name, string? failure)
    {
        Failed |= failure is not null;
        _figures.Add(new Figure(_bench, name, failure is null ? 1 : 0, 0, 1, "passed", null, null));
        Console.Error.WriteLine($"{(failure is null ? "pass" : "FAIL")}  {name}{(failure is null ? "" : ": " + failure)}");
    }

    public object ToDocument()
    {
        using CpuBackend backend = options.CreateBackend();
        return new { Schema = 1, Kernels = backend.KernelVariant, backend.Threads, Processors = Environment.ProcessorCount, Clock = Clock.ProcessorTimeThreads == 0 ? "wall" : "processor", Figures = _figures };
    }

    public static double Median(double[] values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}

/// <summary>Timing.</summary>
internal static class Clock
{
    /// <summary>
    /// Whether to count the seconds that the processors gave this process, over its threads, instead of those on the wall: what other
    /// programs take is then left out. (Waiting threads count too, so this suits kernels that keep all threads busy.)
    /// </summary>
    public static int ProcessorTimeThreads
    {
        get => SpeedClock.ProcessorTimeThreads;
        set => SpeedClock.ProcessorTimeThreads = value;
    }

    private static double Now => SpeedClock.Now;

    /// <summary>Seconds of one call, averaged over as many calls as fill some <paramref name="seconds"/>.</summary>
    public static double Time(Action body, double seconds = 0.05)
    {
        double start = Now, elapsed;
        int calls = 0;
        do
        {
            body();
            calls++;
            elapsed = Now - start;
        }
        while (elapsed < seconds);
        return elapsed / calls;
    }

    /// <summary>Times several bodies in turn, round by round, after one round of warm-up; result[body][round] in seconds per call.</summary>
    public static double[][] Rounds(int rounds, params Action[] bodies) => Rounds(rounds, [.. bodies.Select(body => (Func<double>)(() => Time(body)))]);

    /// <summary>The same of bodies that measure themselves.</summary>
    public static double[][] Rounds(int rounds, params Func<double>[] bodies)
    {
        double[][] times = [.. bodies.Select(_ => new double[rounds])];
        foreach (Func<double> body in bodies)
        {
            body();
        }

        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < bodies.Length; i++)
            {
                times[i][round] = bodies[i]();
            }
        }

        return times;
    }
}
