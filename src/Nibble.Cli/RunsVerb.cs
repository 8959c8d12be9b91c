using System.CommandLine;
using System.Text.Json;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Runs.Reports;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble runs</c>: what was measured on this machine.</summary>
internal sealed class RunsVerb : IVerb
{
    private readonly Argument<long?> _run = new("run") { Description = "Number of a run; without it, the newest are listed.", Arity = ArgumentArity.ZeroOrOne };
    private readonly Option<int> _limit = new("--limit") { Description = "Most runs that are listed.", DefaultValueFactory = _ => 20 };
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
        Command command = new("runs", "List what was measured on this machine, or show one run.") { _run, _limit, _json };
        command.SetAction(Run);
        return command;
    }

    private void Run(ParseResult parsed)
    {
        string path = RunStore.DefaultPath ?? throw new NibbleException(ErrorKind.Usage, $"the run store is off ({RunStore.EnvironmentVariable})", remedy: "unset that variable");
        using RunStore store = RunStore.Open(path);
        bool json = parsed.GetValue(_json);
        if (parsed.GetValue(_run) is { } number)
        {
            Show(store, number, json);
            return;
        }

        IReadOnlyList<RunRecord> runs = store.List(parsed.GetValue(_limit));
        if (json)
        {
            Output.Json(new { Schema = 1, Store = path, Runs = runs.Select(run => new { run.Id, run.Kind, run.Started, run.Finished, run.Status, run.Model, run.Method }) });
            return;
        }

        if (runs.Count == 0)
        {
            Output.Human.WriteLine($"nothing was measured yet (nibble eval, compare and demo write to {path})");
            return;
        }

        Table table = new Table().AddColumns("run", "kind", "started (UTC)", "status", "model", "method");
        foreach (RunRecord run in runs)
        {
            table.AddRow($"{run.Id}", run.Kind, run.Started, run.Status, Markup.Escape(run.Model), Markup.Escape(run.Method));
        }

        Output.Human.Write(table);
    }

    private static void Show(RunStore store, long number, bool json)
    {
        RunRecord run = store.Find(number) ?? throw new NibbleException(ErrorKind.NotFound, $"there is no run {number}", remedy: "'nibble runs' lists them");
        IReadOnlyList<RunMetric> metrics = store.Metrics(number);
        if (json)
        {
            Output.Json(new
            {
                Schema = 1, run.Id, run.Kind, run.Started, run.Finished, run.Status, run.Model, run.Method,
                Configuration = JsonDocument.Parse(run.Configuration).RootElement, Environment = JsonDocument.Parse(run.Environment).RootElement,
                Metrics = metrics, Artefacts = store.Artefacts(number),
            });
            return;
        }

        Output.Human.MarkupLineInterpolated($"[bold]run {run.Id}[/]: {run.Kind}, {run.Model}, {run.Method}, {run.Status}, {run.Started} to {run.Finished ?? "…"}");
        Table table = new Table().AddColumns("metric", "step", "value", "interval");
        foreach (RunMetric metric in metrics)
        {
            MetricInfo info = MetricInfo.Find(metric.Name) ?? new MetricInfo(metric.Name, metric.Name, string.Empty, Better.Neither, string.Empty);
            string interval = metric is { Low: { } low, High: { } high } ? $"{ReportTable.Number(info, low)} – {ReportTable.Number(info, high)}" : string.Empty;
            table.AddRow(Markup.Escape(ReportTable.Heading(info)), $"{metric.Step}", ReportTable.Number(info, metric.Value), interval);
        }

        Output.Human.Write(table);
        Output.Human.WriteLine(run.Configuration);
    }
}
