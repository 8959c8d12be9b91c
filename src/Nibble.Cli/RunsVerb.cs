using System.CommandLine;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Runs.Reports;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble runs</c>: what was measured, trained and quantized on this machine.</summary>
internal sealed class RunsVerb : IVerb
{
    private const int MostFiles = 6;

    private readonly Argument<long?> _run = new("run") { Description = "Number of a run; without it, the newest are listed.", Arity = ArgumentArity.ZeroOrOne };
    private readonly Option<int> _limit = new("--limit") { Description = "Most runs that are listed.", DefaultValueFactory = _ => 20 };
    private readonly Option<long[]> _remove = new("--remove") { Description = "Number of a run to delete from the list; may be repeated. Its files stay." };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "With --remove: say what would be deleted, and delete nothing." };
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        _limit.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && result.GetValueOrDefault<int>() < 1)
            {
                result.AddError($"--limit {result.GetValueOrDefault<int>()}: expected 1 or more");
            }
        });
        Command command = new("runs", "List what was measured, trained and quantized on this machine, show one run, or delete some.") { _run, _limit, _remove, _dryRun, _json };
        command.SetAction(Run);
        return command;
    }

    private void Run(ParseResult parsed)
    {
        string path = RunStore.DefaultPath ?? throw new NibbleException(ErrorKind.Usage, $"the run store is off ({RunStore.EnvironmentVariable})", remedy: "unset that variable");
        using RunStore store = RunStore.Open(path);
        bool json = parsed.GetValue(_json);
        if (parsed.GetValue(_remove) is { Length: > 0 } unwanted)
        {
            if (parsed.GetValue(_run) is { } shown)
            {
                throw new NibbleException(ErrorKind.Usage, $"run {shown} and --remove", "one run is shown, others are deleted", "give one of them; several runs are deleted by --remove 12 --remove 13");
            }

            Remove(store, unwanted, parsed.GetValue(_dryRun), json);
            return;
        }

        if (parsed.GetValue(_dryRun))
        {
            throw new NibbleException(ErrorKind.Usage, "--dry-run without --remove", "nothing is deleted anyway", "give --remove RUN, or leave it out");
        }

        if (parsed.GetValue(_run) is { } number)
        {
            Show(store, number, json);
            return;
        }

        IReadOnlyList<RunRecord> runs = store.List(parsed.GetValue(_limit));
        if (json)
        {
            Output.Json(new { Schema = 1, Store = path, Runs = runs.Select(run => new { run.Id, run.Kind, run.Started, run.Finished, run.Status, run.Model, run.Method, run.Output, run.Resumes, run.Progress, run.Note }) });
            return;
        }

        if (runs.Count == 0)
        {
            Output.Text.WriteLine($"nothing was recorded yet (nibble eval, compare, demo, finetune and quantize write to {path})");
            return;
        }

        FitTable table = new([new("run", IsNumber: true), new("kind"), new("started (UTC)"), new("status", Wraps: true), new("model", Wraps: true), new("method", Wraps: true)]);
        foreach (RunRecord run in runs)
        {
            table.AddRow($"{run.Id}", Markup.Escape(run.Kind), run.Started[..16].Replace('T', ' '), Status(run), Markup.Escape(run.Model), Markup.Escape(RunName.Of(run)));
        }

        table.Write(Output.Human);
    }

    private static void Show(RunStore store, long number, bool json)
    {
        RunRecord run = Find(store, number);
        IReadOnlyList<RunMetric> metrics = store.Metrics(number);
        if (json)
        {
            Output.Json(new
            {
                Schema = 1, run.Id, run.Kind, run.Started, run.Finished, run.Status, run.Model, run.Method, run.Output, run.Resumes, run.Progress, run.Note, run.Beat,
                Configuration = RunRecord.Document(run.Configuration), Environment = RunRecord.Document(run.Environment),
                Metrics = metrics, Artefacts = store.Artefacts(number),
            });
            return;
        }

        Output.Text.MarkupLineInterpolated($"[bold]run {run.Id}[/]: {run.Kind}, {run.Model}, {RunName.Of(run)}, {Status(run)}, {run.Started} to {run.Finished ?? "…"}");
        if (run.Resumes is { } before)
        {
            Output.Text.WriteLine($"goes on from run {before}: its curves hold the steps before, too");
        }

        if (run.Note is { } note)
        {
            Output.Text.WriteLine(note);
        }

        ILookup<bool, IGrouping<string, RunMetric>> byKind = metrics.GroupBy(metric => metric.Name).ToLookup(group => group.Any(metric => metric.Step > 0));
        Curves([.. byKind[true]]);
        Results([.. byKind[false].Select(group => group.First()).OrderBy(metric => RunCurve.Place(metric.Name))]);
        Output.Text.WriteLine(run.Configuration);
        RunArtefact[] files = [.. store.Artefacts(number)];
        if (files.Length > 0)
        {
            Output.Text.WriteLine($"{files.Length} files, {Sizes.Text(files.Sum(file => file.Bytes))}: {string.Join(", ", files.Take(MostFiles).Select(file => file.Name))}{(files.Length > MostFiles ? ", …" : string.Empty)}");
        }
    }

    private static RunRecord Find(RunStore store, long number) =>
        store.Find(number) ?? throw new NibbleException(ErrorKind.NotFound, $"there is no run {number}", remedy: "'nibble runs' lists them");

    private static void Remove(RunStore store, long[] numbers, bool dryRun, bool json)
    {
        RunRecord[] runs = [.. numbers.Distinct().Select(number => Find(store, number))];
        if (runs.FirstOrDefault(run => run.Status == RunRecord.Running) is { } running)
        {
            throw new NibbleException(ErrorKind.Usage, $"run {running.Id} is running", "its process goes on to write into it", "end it, or wait for its end; nothing was deleted");
        }

        if (!dryRun)
        {
            store.Remove([.. runs.Select(run => run.Id)]);
        }

        if (json)
        {
            Output.Json(new { Schema = 1, Removed = !dryRun, Runs = runs.Select(run => new { run.Id, run.Kind, run.Started, run.Status, run.Model, run.Method, run.Output }) });
            return;
        }

        foreach (RunRecord run in runs)
        {
            string files = run.Output is { } output && Path.Exists(output) ? $"; what it wrote stays: {output}" : string.Empty;
            Output.Text.WriteLine($"run {run.Id} ({run.Kind}, {run.Model}, {RunName.Of(run)}, {run.Started}) {(dryRun ? "would be" : "is")} deleted{files}");
        }
    }

    private static string Status(RunRecord run) => run.Status switch
    {
        RunRecord.Running when run.Progress is { } share => $"running, {share:P0}",
        RunRecord.Lost => "lost (ended without a word)",
        _ => run.Status,
    };

    /// <summary>A line for each curve: thousands of points are for --json and the dashboard.</summary>
    private static void Curves(IReadOnlyList<IGrouping<string, RunMetric>> curves)
    {
        if (curves.Count == 0)
        {
            return;
        }

        Table table = new Table().AddColumns("by step", "points", "first", "best", "last", "course");
        foreach (IGrouping<string, RunMetric> curve in curves.OrderBy(curve => RunCurve.Place(curve.Key)))
        {
            MetricInfo info = RunCurve.Info(curve.Key);
            RunMetric[] points = [.. curve.OrderBy(point => point.Step)];
            string best = info.Better == Better.Neither ? string.Empty : Text(info, info.Better == Better.Lower ? points.MinBy(point => point.Value)! : points.MaxBy(point => point.Value)!);
            table.AddRow(Markup.Escape(ReportTable.Heading(info)), $"{points.Length}", Text(info, points[0]), best, Text(info, points[^1]), RunCurve.Spark([.. points.Select(point => point.Value)]));
        }

        Output.Human.Write(table);
        Output.Text.WriteLine("in brackets: the step");
    }

    private static string Text(MetricInfo info, RunMetric point) => $"{ReportTable.Number(info, point.Value)} ({point.Step})";

    private static void Results(IReadOnlyList<RunMetric> metrics)
    {
        Table table = new Table().AddColumns("metric", "value", "interval");
        foreach (RunMetric metric in metrics)
        {
            MetricInfo info = RunCurve.Info(metric.Name);
            string interval = metric is { Low: { } low, High: { } high } ? $"{ReportTable.Number(info, low)} – {ReportTable.Number(info, high)}" : string.Empty;
            table.AddRow(Markup.Escape(ReportTable.Heading(info)), ReportTable.Number(info, metric.Value), interval);
        }

        Output.Human.Write(table);
    }
}
