using System.CommandLine;
using System.Globalization;
using Nibble.Benchmarks;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Runs.Reports;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble bench</c>: the speed of a model, beside the memory's and a peer's.</summary>
internal sealed class BenchVerb : IVerb
{
    private const string PeerPrefix = "llama-bench=";

    private readonly Argument<string?> _model = new("model") { Description = "A Hugging Face folder, a .gguf or a .safetensors file; or use --shapes.", Arity = ArgumentArity.ZeroOrOne, CustomParser = CommonOptions.Place };
    private readonly Option<string?> _shapes = new("--shapes") { Description = $"Random weights of the shapes of a known model: {string.Join(", ", ModelShapes.Names)}." };
    private readonly Option<string[]> _methods = new("--methods") { Description = "METHOD[:key=value,…], several of them one after the other; none: as it is.", DefaultValueFactory = _ => [PlanOverride.Dense], AllowMultipleArgumentsPerToken = true };
    private readonly Option<int[]> _threads = new("--threads") { Description = "Numbers of threads, taking turns (default: all processors, or NIBBLE_THREADS).", AllowMultipleArgumentsPerToken = true };
    private readonly Option<int> _prompt = Number("--prompt-tokens", 512, "Tokens of the prompt; 0: none.");
    private readonly Option<int> _tokens = Number("--decode-tokens", 64, "Tokens decoded one by one; 0: none.");
    private readonly Option<int> _depth = Number("--depth", 0, "Tokens in the cache before decoding.");
    private readonly Option<int> _rounds = Number("--rounds", 5, "Measured rounds, after one that warms up.");
    private readonly Option<bool> _head = new("--quantize-head") { Description = "Quantize the output head as well." };
    private readonly Option<bool> _embeddings = new("--quantize-embeddings") { Description = "Quantize the token embedding as well, and a head that is tied to it." };
    private readonly Option<string?> _peer = new("--peer") { Description = "llama-bench=PATH: llama.cpp's program, in turn with Nibble." };
    private readonly Option<string?> _peerModel = new("--peer-model") { Description = "The peer's model, a .gguf file." };
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly LoadFlags _load = new("auto", threads: false);

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("bench", "Measure the speed of a model: prompt and decoding, beside the memory's limit and a peer.")
        {
            _model, _shapes, _methods, _threads, _prompt, _tokens, _depth, _rounds, _head, _embeddings, _peer, _peerModel, _json,
        };
        _load.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private static Option<int> Number(string name, int value, string description) => new(name) { Description = description, DefaultValueFactory = _ => value };

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        SpeedOptions options = Read(parsed);
        IReadOnlyList<ResultDocument> cells = SpeedBench.Run(options, text => Output.Text.MarkupLineInterpolated($"[dim]{text}[/]"), cancellation);
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = options.Shapes ?? options.Model, Random = options.Shapes is not null, options.Peer, Cells = cells });
        }
        else
        {
            Table(cells).Write(Output.Human);
        }
    }

    /// <summary>What the options say.</summary>
    internal SpeedOptions Read(ParseResult parsed)
    {
        string? model = parsed.GetValue(_model), shapes = parsed.GetValue(_shapes);
        if (model is null == shapes is null)
        {
            Throw.Usage("bench measures a model or --shapes", model is null ? "neither was given" : "both were given", "nibble bench MODEL, or nibble bench --shapes llama-1.1b");
        }

        SpeedOptions options = new()
        {
            Model = model,
            Shapes = shapes,
            Methods = [.. parsed.GetRequiredValue(_methods).SelectMany(Split).Select(text => Request(parsed, text))],
            Prompt = parsed.GetValue(_prompt),
            Tokens = parsed.GetValue(_tokens),
            Depth = parsed.GetValue(_depth),
            Rounds = parsed.GetValue(_rounds),
            Load = _load.Read(parsed),
            Peer = Peer(parsed.GetValue(_peer), parsed.GetValue(_peerModel)),
        };
        return parsed.GetValue(_threads) is { Length: > 0 } threads ? options with { Threads = threads } : options with { Threads = [Backends.Cpu.CpuThreads.Choose(null)] };
    }

    // "none,nf4" is two methods; a comma behind a colon parts the settings of one.
    private static string[] Split(string text) => text.Contains(':', StringComparison.Ordinal) ? [text] : text.Split(',', StringSplitOptions.RemoveEmptyEntries);

    private PlanRequest? Request(ParseResult parsed, string text) => PlanOverride.Parse("*=" + text).Settings is { } settings
        ? new PlanRequest(settings) { Head = parsed.GetValue(_head), Embeddings = parsed.GetValue(_embeddings) }
        : null;

    private static LlamaBench? Peer(string? peer, string? model)
    {
        if (peer is null && model is null)
        {
            return null;
        }

        if (peer?.StartsWith(PeerPrefix, StringComparison.Ordinal) != true || model is null)
        {
            Throw.Usage("the peer is not understood", "it takes a program and a model", "give --peer llama-bench=PATH and --peer-model FILE.gguf");
            return null;
        }

        return new LlamaBench(peer[PeerPrefix.Length..], model);
    }

    private static FitTable Table(IReadOnlyList<ResultDocument> cells)
    {
        FitTable table = new(
        [
            new("method", Wraps: true), new("bits", IsNumber: true, Rank: 1), new("threads", IsNumber: true), new("prefill, tok/s", IsNumber: true), new("decode, tok/s", IsNumber: true), new("of raw read", IsNumber: true),
            new("peer prefill", IsNumber: true, Rank: 3), new("peer decode", IsNumber: true, Rank: 2), new("weights", IsNumber: true), new("peak memory", IsNumber: true),
        ]);
        foreach (ResultDocument cell in cells)
        {
            table.AddRow(
                cell.Method,
                cell.Bits?.ToString(CultureInfo.InvariantCulture) ?? string.Empty,
                cell.Threads.ToString(CultureInfo.InvariantCulture),
                Rate(cell, "prefill_tokens_per_second"),
                Rate(cell, "decode_tokens_per_second"),
                Text(cell, "decode_read_share", value => value.ToString("P0", CultureInfo.InvariantCulture)),
                Rate(cell, "peer_prefill_tokens_per_second"),
                Rate(cell, "peer_decode_tokens_per_second"),
                Text(cell, "weight_bytes", value => Sizes.Text((long)value)),
                Text(cell, "peak_memory_bytes", value => Sizes.Text((long)value)));
        }

        return table;
    }

    private static string Rate(ResultDocument cell, string name) =>
        Text(cell, name, value => ReportTable.Significant(value, 3)) + Text(cell, name + "_sd", value => " ± " + ReportTable.Significant(value, 2));

    private static string Text(ResultDocument cell, string name, Func<double, string> format) =>
        cell.Metrics.TryGetValue(name, out double value) ? format(value) : string.Empty;
}
