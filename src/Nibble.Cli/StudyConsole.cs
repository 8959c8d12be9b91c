using System.Globalization;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Runs;
using Nibble.Runs.Reports;
using Nibble.Runs.Studies;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>Runs a study for people: the plan, a line a cell, the table, where the files are.</summary>
internal sealed class StudyConsole : IStudyObserver
{
    // With the rank by which a narrow terminal leaves them out, see FitColumn.
    private static readonly (string Metric, int Rank)[] Columns =
    [
        ("accuracy", 0), ("macro_f1", 1), ("mcnemar_p", 2), ("perplexity", 0), ("perplexity_ratio", 0), ("kl", 6), ("top1_agreement", 7), ("bits_per_weight", 4), ("weight_bytes", 0),
        ("peak_memory_bytes", 5), ("decode_tokens_per_second", 3), ("energy_joules", 8), ("energy_idle_watts", 9),
    ];

    private readonly StudyPlan _plan;
    private readonly string _output;
    private readonly List<long> _recorded = [];
    private bool _warned;

    private StudyConsole(StudyPlan plan, string output) => (_plan, _output) = (plan, Path.TrimEndingDirectorySeparator(Path.GetFullPath(output)));

    /// <summary>The first of STEM-1, STEM-2 … in the working folder that is free.</summary>
    public static string FreeFolder(string stem) => Enumerable.Range(1, int.MaxValue).Select(n => $"{stem}-{n}").First(name => !Path.Exists(name));

    /// <summary>Runs what is not finished, shows how it goes, and returns the results.</summary>
    public static StudyResults Run(StudyPlan plan, string output, bool force, CancellationToken cancellation)
    {
        StudyRunner runner = new(plan, output, ChildProcess.Self());
        runner.Prepare(force);
        StudyConsole console = new(plan, output);
        try
        {
            return runner.Run(console, cancellation);
        }
        catch (OperationCanceledException)
        {
            // Without -o the next one would take a new folder.
            Output.Text.MarkupLineInterpolated($"stopped; what is finished is in {output}: the same command with -o {output} goes on from there");
            throw;
        }
        finally
        {
            console.RecordFiles();
        }
    }

    /// <summary>The cells and what they will take.</summary>
    public static void ShowPlan(StudyPlan plan)
    {
        FitTable table = new([new("#", IsNumber: true), new("model"), new("method", Wraps: true), new("time (estimate)", IsNumber: true), new("memory (estimate)", IsNumber: true)]);
        foreach ((int index, StudyCell cell) in plan.Cells.Index())
        {
            table.AddRow(
                $"{index + 1}", Markup.Escape(cell.Model.Name), Markup.Escape(cell.Method.Label) + (cell.Method.IsBaseline ? " (baseline)" : string.Empty),
                Seconds(cell.Estimate.Seconds), string.Create(CultureInfo.InvariantCulture, $"{cell.Estimate.Bytes / 1e6:#,0} MB"));
        }

        table.Write(Output.Human);
        Output.Text.MarkupLineInterpolated($"{plan.Cells.Count} cells, roughly {Seconds(plan.Seconds)}: tokens × multiply-adds ÷ {CellEstimate.Rate(plan.Study)}");
    }

    /// <summary>The results.</summary>
    public static void ShowTable(StudyResults results)
    {
        bool models = ReportTable.ManyModels(results);
        (MetricInfo Metric, int Rank)[] columns = [.. Columns.Select(column => (MetricInfo.Find(column.Metric)!, column.Rank)).Where(column => results.Cells.Any(cell => cell.Metrics.ContainsKey(column.Item1.Name)))];
        FitTable table = new(
        [
            .. models ? [new FitColumn("model")] : Array.Empty<FitColumn>(), new FitColumn("method", Wraps: true),
            .. columns.Select(column => new FitColumn(Markup.Escape(ReportTable.Heading(column.Metric)), IsNumber: true, Rank: column.Rank)),
        ]);
        foreach (ResultDocument cell in results.Cells)
        {
            table.AddRow([.. models ? [Markup.Escape(cell.Model)] : Array.Empty<string>(), Markup.Escape(ReportTable.Label(cell)), .. columns.Select(column => Value(cell, column.Metric))]);
        }

        table.Write(Output.Human);
        Console.Error.WriteLine("in brackets: paired 95 % intervals; all others, and every setting, are in the report");
        foreach (CellFailure failure in results.Failures)
        {
            Output.Text.MarkupLineInterpolated($"[red]failed[/] {failure.Model}, {failure.Label} (exit code {failure.ExitCode}): {failure.Error}");
        }
    }

    public void Started(StudyCell cell, int number, int cells) =>
        Output.Text.MarkupInterpolated(CultureInfo.InvariantCulture, $"[[{number}/{cells}]] {cell.Title} … ");

    public void Finished(StudyCell cell, ResultDocument result, bool reused)
    {
        string numbers = string.Join(", ", new[] { "accuracy", "perplexity", "decode_tokens_per_second" }
            .Where(result.Metrics.ContainsKey)
            .Select(name => $"{MetricInfo.Find(name)!.Label} {ReportTable.Number(result, MetricInfo.Find(name)!)}"));
        Output.Text.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"{(reused ? cell.Title + ": measured before, " : string.Empty)}{numbers}");
        Record(result, reused);
    }

    public void Failed(StudyCell cell, CellFailure failure) =>
        Output.Text.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"[red]failed[/]: {failure.Error.Split('\n')[0]}");

    private static string Value(ResultDocument cell, MetricInfo metric)
    {
        string number = ReportTable.Number(cell, metric);
        return metric.Name == "perplexity_ratio" && ReportTable.Interval(cell, metric) is { } interval ? $"{number} [dim]({interval.Replace(" – ", "–", StringComparison.Ordinal)})[/]" : number;
    }

    private static string Seconds(double seconds) => seconds switch
    {
        < 90 => string.Create(CultureInfo.InvariantCulture, $"{seconds:0} s"),
        < 5400 => string.Create(CultureInfo.InvariantCulture, $"{seconds / 60:0} min"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{seconds / 3600:0.0} h"),
    };

    // A cell is recorded when it is measured: what is finished of a study that is stopped is known. One that was measured before is known already.
    private void Record(ResultDocument cell, bool reused) => WithStore(store =>
        _recorded.Add((reused && cell.Key is { } key ? store.FindKey("compare", _output, key) : null) ?? RunRecorder.Record(store, "compare", cell, _plan.Study.Name, _output)));

    // Also after Ctrl-C, as the runner writes them then, too.
    private void RecordFiles() => WithStore(store =>
    {
        RunArtefact[] files = [.. ReportWriter.Files.Select(name => new FileInfo(Path.Combine(_output, name))).Where(file => file.Exists).Select(file => new RunArtefact(file.Name, file.FullName, file.Length))];
        _recorded.ForEach(run => store.Replace(run, files));
    });

    private void WithStore(Action<RunStore> work)
    {
        if (RunRecording.StorePath is not { } path || _warned)
        {
            return;
        }

        try
        {
            using RunStore store = RunStore.Open(path);
            work(store);
        }
        catch (Exception error) when (error is IO.NibbleException or Microsoft.Data.Sqlite.SqliteException)
        {
            _warned = true;
            RunRecording.Warn(error.Message);
        }
    }
}
