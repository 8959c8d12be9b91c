using System.CommandLine;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Runs.Reports;
using Nibble.Runs.Studies;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble eval</c>: measures one model.</summary>
internal sealed class EvalVerb : IVerb
{
    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string[]> _tasks = new("--tasks") { Description = "perplexity, classification, latency; separated by commas (default: perplexity,latency).", AllowMultipleArgumentsPerToken = true };
    private readonly Option<string> _data = new("--data") { Description = "A file, a folder, an address or a name (demo, wikitext2, codesearchnet/LANGUAGE, tweeteval/TASK): see docs/data.md; classification: tweeteval, or a folder of its form.", DefaultValueFactory = _ => "demo" };
    private readonly Option<string?> _protocol = new("--protocol") { Description = "window, blocks, half, lines, examples: see docs/protocols.md (default window; examples for codesearchnet and tweeteval)." };
    private readonly Option<int?> _window = new("--window") { Description = "Tokens of a window (default: 1024, or the model's context if smaller)." };
    private readonly Option<int?> _stride = new("--stride") { Description = "Tokens from one window to the next (default: half a window)." };
    private readonly Option<string?> _join = new("--join") { Description = "How rows are joined: raw (default of files), hf (default of wikitext2, .jsonl, folders)." };
    private readonly Option<int?> _limit = new("--limit") { Description = "Use only the first tokens of the text." };
    private readonly Option<string> _split = new("--split") { Description = "Classification: train, val or test.", DefaultValueFactory = _ => "test" };
    private readonly Option<int?> _rows = new("--rows") { Description = "Classification: use only the first rows." };
    private readonly Option<string?> _promptTemplate = new("--prompt-template") { Description = "Classification without a head: the prompt, with {text} where the text belongs." };
    private readonly Option<int> _promptTokens = new("--prompt-tokens") { Description = "Latency: tokens of the prompt.", DefaultValueFactory = _ => 128 };
    private readonly Option<int> _decodeTokens = new("--decode-tokens") { Description = "Latency: new tokens.", DefaultValueFactory = _ => 64 };
    private readonly Option<int> _runs = new("--runs") { Description = "Latency: measured runs, after one that warms up.", DefaultValueFactory = _ => 6 };
    private readonly Option<string?> _saveBaseline = new("--save-baseline") { Description = "Write losses and logits to a folder, for others to be compared with." };
    private readonly Option<string?> _baseline = new("--baseline") { Description = "Compare with the baseline in a folder: paired ratio, KL divergence, agreement." };
    private readonly Option<string?> _before = new("--before") { Description = "What a tuning cost: the base that the model, or its adapter, was tuned from; both are measured on the same tokens." };
    private readonly Option<string?> _country = new("--country") { Description = "Country whose electricity is used, by name or code (default: the world's mean)." };
    private readonly Option<int> _seed = CommonOptions.Seed();
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly LoadFlags _load = new("f32");
    private readonly QuantizationOptions _quantization = new();

    public Command Create(CancellationToken cancellation)
    {
        _protocol.AcceptOnlyFromAmong([.. Protocol.Names]);
        _join.AcceptOnlyFromAmong("raw", "hf");
        Command command = new("eval", "Measure a model: perplexity with an interval, latency, memory, energy.")
        {
            _model, _tasks, _data, _protocol, _window, _stride, _join, _limit, _split, _rows, _promptTemplate, _promptTokens, _decodeTokens, _runs, _saveBaseline, _baseline, _before, _country, _seed, _json,
        };
        _load.AddTo(command);
        _quantization.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        EvaluationOptions options = Read(parsed);
        using CancellationTokenSource orphaned = ChildProcess.WatchParent(cancellation);
        ResultDocument result = WithProgress((progress, token) => Measure(parsed, options, progress, token), orphaned.Token);
        Record(result);
        if (parsed.GetValue(_json))
        {
            Output.Json(result);
        }
        else
        {
            Render(result);
        }
    }

    private ResultDocument Measure(ParseResult parsed, EvaluationOptions options, Action<string, double> progress, CancellationToken cancellation)
    {
        string model = parsed.GetRequiredValue(_model);
        return parsed.GetValue(_before) is { } before
            ? Forgetting.Run(model, before, options, progress, cancellation)
            : Evaluator.Run(model, options, progress, cancellation);
    }

    /// <summary>What the options say.</summary>
    internal EvaluationOptions Read(ParseResult parsed) => new()
    {
        Tasks = [.. (parsed.GetValue(_tasks) is { Length: > 0 } tasks ? tasks : ["perplexity,latency"]).SelectMany(list => list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))],
        Data = parsed.GetRequiredValue(_data),
        Protocol = parsed.GetValue(_protocol) ?? TextSource.ProtocolOf(parsed.GetRequiredValue(_data)),
        Window = parsed.GetValue(_window),
        Stride = parsed.GetValue(_stride),
        Join = parsed.GetValue(_join) switch { "raw" => TextJoin.Raw, "hf" => TextJoin.Hf, _ => null },
        Limit = parsed.GetValue(_limit),
        Split = parsed.GetRequiredValue(_split),
        Rows = parsed.GetValue(_rows),
        PromptTemplate = parsed.GetValue(_promptTemplate),
        PromptTokens = parsed.GetValue(_promptTokens),
        DecodeTokens = parsed.GetValue(_decodeTokens),
        Runs = parsed.GetValue(_runs),
        SaveBaseline = parsed.GetValue(_saveBaseline),
        Baseline = parsed.GetValue(_baseline),
        Country = parsed.GetValue(_country),
        Seed = parsed.GetValue(_seed),
        Load = _load.Read(parsed) with { Quantization = _quantization.Request(parsed) },
    };

    private static ResultDocument WithProgress(Func<Action<string, double>, CancellationToken, ResultDocument> work, CancellationToken cancellation)
    {
        if (!Output.Human.Profile.Capabilities.Interactive)
        {
            return work((_, _) => { }, cancellation);
        }

        return Output.Human.Progress().AutoClear(true).HideCompleted(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TimeLeftColumn()).Start(context =>
        {
            ProgressTask bar = context.AddTask("loading", maxValue: 1);
            return work((what, done) => (bar.Description, bar.Value) = (what, done), cancellation);
        });
    }

    // A result that cannot be recorded is a result all the same.
    private static void Record(ResultDocument result)
    {
        if (RunRecording.StorePath is not { } path)
        {
            return;
        }

        try
        {
            using RunStore store = RunStore.Open(path);
            RunRecorder.Record(store, "eval", result);
        }
        catch (NibbleException error)
        {
            RunRecording.Warn(error.Message);
        }
    }

    private static void Render(ResultDocument result)
    {
        Table table = new Table().AddColumns("metric", "value", "95 % interval", "unit");
        table.Columns[1].RightAligned();
        foreach (MetricInfo metric in MetricInfo.All.Where(metric => result.Metrics.ContainsKey(metric.Name)))
        {
            string heading = ReportTable.Heading(metric);
            string unit = heading.Contains(", ", StringComparison.Ordinal) ? heading[(heading.IndexOf(", ", StringComparison.Ordinal) + 2)..] : metric.Unit;
            table.AddRow(Markup.Escape(metric.Label), ReportTable.Number(result, metric), Markup.Escape(ReportTable.Interval(result, metric) ?? string.Empty), Markup.Escape(unit));
        }

        string adapter = result.Adapter is null ? string.Empty : $" with the adapter {result.Adapter}";
        Output.Text.MarkupLineInterpolated($"[bold]{result.Model}[/]{adapter}: {result.Method}, {result.Protocol ?? "no text"} on {result.Data}, {result.Kernels} kernels, {result.Threads} threads, {result.ActivationDtype} activations, seed {result.Seed}");
        Output.Human.Write(table);
        ClassRendering.Show(result);
        RenderForgetting(result);
        if (result.EnergyDescription is { } energy)
        {
            Output.Text.MarkupLineInterpolated($"[dim]energy: {energy}; CO₂: {result.CarbonSource ?? string.Empty}; memory: {result.MemorySource ?? string.Empty}[/]");
        }
    }

    private static void RenderForgetting(ResultDocument result)
    {
        if (result.Before is null)
        {
            return;
        }

        double[] interval = result.Intervals["nll_delta"];
        string verdict = interval[0] > 0 ? "worse than its base here: the tuning cost it something" : interval[1] < 0 ? "better than its base here" : "no different from its base here, within the interval";
        Output.Text.MarkupLineInterpolated($"against {result.Before}: {result.Metrics["nll_delta"]:+0.0000;-0.0000} nats a token ({interval[0]:+0.0000;-0.0000} to {interval[1]:+0.0000;-0.0000}), KL {result.Metrics["kl"]:0.0000}: {verdict}");
    }
}
