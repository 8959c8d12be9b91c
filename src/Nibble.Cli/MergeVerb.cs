using System.CommandLine;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;
using Nibble.Tuning.Merging;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble merge</c>: a base and an adapter as one model, dense or back in the base's quantized format.</summary>
internal sealed class MergeVerb : IVerb
{
    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string> _adapter = new("--adapter") { Description = "Folder of the PEFT adapter.", Required = true };
    private readonly Option<bool> _requantize = new("--requantize") { Description = "Write the format of the quantized base again: same layout and scales, other codes. Needs --data." };
    private readonly Option<string?> _data = new("--data") { Description = "With --requantize: text or rows of the task; its inputs weigh the errors." };
    private readonly Option<string?> _evalData = new("--eval-data") { Description = "With --requantize: rows that measure the result (default: every eighth row of --data)." };
    private readonly Option<int?> _samples = new("--samples") { Description = "With --requantize: calibration samples (default: 128, or as many as the data has)." };
    private readonly Option<int?> _length = new("--sample-length") { Description = "With --requantize: tokens of a sample (default: 512, or the model's context)." };
    private readonly Option<string?> _remainder = new("--remainder") { Description = "With --requantize: folder for a LoRA adapter of what rounding takes away." };
    private readonly Option<int> _remainderRank = new("--remainder-rank") { Description = "Its rank.", DefaultValueFactory = _ => 8 };
    private readonly Option<string?> _dtype = CommonOptions.Dtype();
    private readonly Option<string?> _output = CommonOptions.Output("Folder to write.");
    private readonly Option<int?> _threads = CommonOptions.Threads();
    private readonly Option<int> _seed = CommonOptions.Seed();
    private readonly Option<bool> _force = CommonOptions.Force();
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        _output.Required = true;
        Command command = new("merge", "Merge an adapter into its base: a dense model, or the base's quantized format again.")
        {
            _model, _adapter, _requantize, _data, _evalData, _samples, _length, _remainder, _remainderRank, _dtype, _output, _threads, _seed, _force, _json,
        };
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(_requantize))
            {
                Requantize(parsed, cancellation);
            }
            else
            {
                Dense(parsed);
            }
        });
        return command;
    }

    private void Dense(ParseResult parsed)
    {
        if (parsed.GetValue(_data) is not null || parsed.GetValue(_evalData) is not null || parsed.GetValue(_samples) is not null || parsed.GetValue(_length) is not null || parsed.GetValue(_remainder) is not null)
        {
            Throw.Usage("--data, --eval-data, --samples, --sample-length and --remainder are for --requantize", "a merge into a dense model is exact and needs no data", "leave them out, or add --requantize");
        }

        DType target = parsed.GetValue(_dtype) is { } name ? Enum.Parse<DType>(name, ignoreCase: true) : DType.BF16;
        string folder = parsed.GetRequiredValue(_output)!;
        OutputFolder.Check(folder, parsed.GetValue(_force));
        (string model, string adapter) = (parsed.GetRequiredValue(_model), parsed.GetRequiredValue(_adapter));
        LoadOptions load = new() { Threads = parsed.GetValue(_threads), Labels = Adapters.Labels(adapter, model) };
        using LoadedModel loaded = LoadedModel.Load(model, load);
        using IAdapter part = Adapters.Load(adapter, loaded.Config, loaded.Backend);
        using OutputFolder whole = OutputFolder.Create(folder, parsed.GetValue(_force));
        MergedModel.Write(loaded.Model, loaded.Config, loaded.Path, part, target, whole.Path);
        whole.Commit();
        long bytes = FileBytes(folder);
        Output.Text.WriteLine($"merged into {folder}: {target}, {Sizes.Text(bytes)}");
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = loaded.Path, Adapter = parsed.GetValue(_adapter), Dtype = target.ToString().ToLowerInvariant(), Output = folder, FileBytes = bytes });
        }
    }

    private void Requantize(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(_dtype) is not null)
        {
            Throw.Usage("--dtype cannot be used with --requantize", "the base's own format is written", "leave one of them out");
        }

        if (parsed.GetValue(_data) is not { } data)
        {
            Throw.Usage("--requantize needs --data", "rounding is weighed by the inputs that the task gives the layers", "give the text or rows that the adapter was trained on");
            return;
        }

        string folder = parsed.GetRequiredValue(_output)!;
        RequantizeOptions options = new(parsed.GetRequiredValue(_model), parsed.GetRequiredValue(_adapter), data, folder)
        {
            EvalData = parsed.GetValue(_evalData),
            Samples = parsed.GetValue(_samples),
            Length = parsed.GetValue(_length),
            Remainder = parsed.GetValue(_remainder),
            RemainderRank = parsed.GetValue(_remainderRank),
            Seed = parsed.GetValue(_seed),
            Threads = parsed.GetValue(_threads),
            Force = parsed.GetValue(_force),
        };
        MergeReport report = RequantizeMerge.Run(options, Output.Text.WriteLine, cancellation);
        Render(report);
        Output.Text.WriteLine($"merged into {folder}: the base's format, {report.ChangedLayers} layers changed, {Sizes.Text(FileBytes(folder))}");
        if (options.Remainder is { } remainder)
        {
            Output.Text.WriteLine($"remainder of rank {options.RemainderRank} in {remainder}, {Sizes.Text(FileBytes(remainder))}: run with --adapter {remainder}");
        }

        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, options.Model, options.Adapter, options.Data, Output = folder, options.Remainder, FileBytes = FileBytes(folder), Report = report });
        }
    }

    private static void Render(MergeReport report)
    {
        Table table = new Table().AddColumns("held-out rows", "nats a token", "gain kept", "KL from base + adapter");
        void Add(string name, MergeQuality? quality)
        {
            if (quality is not null)
            {
                table.AddRow(name, $"{quality.Nll:F4}", quality.GainKept is { } kept ? $"{kept:P1}" : string.Empty, quality.Kl is { } kl ? $"{kl:F5}" : string.Empty);
            }
        }

        Add("quantized base", report.Base);
        Add("base + adapter", report.Adapter);
        Add("naive merge (every weight rounded)", report.Naive);
        Add("merged", report.Merged);
        Add("merged + remainder", report.Remainder);
        Output.Human.Write(table);
    }

    private static long FileBytes(string folder) => new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length);
}
