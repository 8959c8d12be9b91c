using System.CommandLine;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble estimate</c>: memory for fine-tuning a model, from its config alone.</summary>
internal sealed class EstimateVerb : IVerb
{
    private readonly Argument<string?> _model = new("model")
    {
        Description = "A folder with a config.json (weights are not needed); without it, the table of 7B, 13B, 30B and 65B.",
        Arity = ArgumentArity.ZeroOrOne,
        CustomParser = CommonOptions.Place,
    };

    private readonly Option<string> _method = new("--method") { Description = "full, lora, qlora or all.", DefaultValueFactory = _ => "all" };
    private readonly Option<int> _rank = Positive("--rank", 8, 1 << 16, "Rank of the adapters.");
    private readonly Option<string?> _targets = new("--target-modules") { Description = "Names of the matrices that get adapters, separated by commas." };
    private readonly Option<int> _batch = Positive("--batch-size", 1, 1 << 20, "Sequences in one step.");
    private readonly Option<int> _length = Positive("--max-seq-length", 512, 1 << 24, "Tokens of a sequence.");
    private readonly Option<string> _dtype = new("--dtype") { Description = "Dtype of dense weights and activations: bf16, f16, f32.", DefaultValueFactory = _ => "bf16" };
    private readonly Option<bool> _checkpointing = new("--gradient-checkpointing") { Description = "Keep only the inputs of blocks (true or false).", DefaultValueFactory = _ => true };
    private readonly Option<int> _block = Positive("--block-size", 64, 4096, "Block size of NF4.");
    private readonly Option<bool> _double = new("--double-quant") { Description = "Quantize the scales of NF4 again (true or false).", DefaultValueFactory = _ => true };
    private readonly Option<string> _device = new("--device") { Description = "gpu: arithmetic of any program on a card; cpu: what nibble finetune itself will take (needs a model).", DefaultValueFactory = _ => "gpu" };
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        _method.AcceptOnlyFromAmong("all", "full", "lora", "qlora");
        _device.AcceptOnlyFromAmong("gpu", "cpu");
        _dtype.AcceptOnlyFromAmong("bf16", "f16", "f32");
        Command command = new("estimate", "Estimate the memory for full fine-tuning, LoRA and QLoRA, with the arithmetic.")
        {
            _model, _method, _rank, _targets, _batch, _length, _dtype, _checkpointing, _block, _double, _device, _json,
        };
        command.SetAction(Run);
        return command;
    }

    private static Option<int> Positive(string name, int value, int most, string description)
    {
        Option<int> option = new(name) { Description = description, DefaultValueFactory = _ => value };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int given) && (given < 1 || given > most))
            {
                result.AddError($"{name} {given}: expected 1 to {most}");
            }
        });
        return option;
    }

    private void Run(ParseResult parsed)
    {
        MemoryOptions options = Options(parsed);
        TuningMemory[] methods = parsed.GetValue(_method) is { } name and not "all" ? [Enum.Parse<TuningMemory>(name, ignoreCase: true)] : Enum.GetValues<TuningMemory>();
        string? path = parsed.GetValue(_model);
        if (parsed.GetValue(_device) == "cpu")
        {
            OnProcessor(path, methods, options, parsed.GetValue(_json));
            return;
        }

        (string Name, ModelSizes Sizes)[] models = path == null ? [.. KnownModels.Llama] : [(path, ModelSizes.Of(ModelConfig.Open(path)))];
        var estimates = models.Select(model => (model.Name, model.Sizes, All: methods.Select(method => MemoryEstimate.Of(model.Sizes, method, options)).ToArray())).ToArray();
        if (parsed.GetValue(_json))
        {
            object[] list = [.. estimates.Select(item => new { Model = item.Name, Parameters = item.Sizes.Parameters, Methods = item.All })];
            Output.Json(new { Schema = 1, Settings = Settings(options), Estimates = list });
            return;
        }

        if (path == null)
        {
            RenderTable(estimates.Select(item => (item.Name, item.All)));
        }
        else
        {
            RenderArithmetic(estimates[0].All);
        }

        RenderAssumptions(options, path == null);
    }

    /// <summary>What a fine-tuning on this processor takes: the passes run on a device that only counts.</summary>
    private static void OnProcessor(string? path, TuningMemory[] methods, MemoryOptions options, bool json)
    {
        if (path is null)
        {
            Throw.Usage("--device cpu needs a model", "its passes are counted, not computed by a formula", "give a folder with a config.json");
        }

        ModelConfig config = ModelConfig.Open(path!);
        MemoryEstimate[] all = [.. methods.Select(method => FineTunePlan.Of(config, new FineTuneOptions
        {
            Model = path!,
            Method = method.ToString().ToLowerInvariant(),
            Lora = new LoraSettings { Rank = options.Rank, TargetModules = options.TargetModules },
            Trainer = new TrainerSettings { BatchSize = options.BatchSize, MaxSeqLength = options.SequenceLength, GradientCheckpointing = options.GradientCheckpointing },
        }).Memory)];
        if (json)
        {
            object[] list = [new { Model = path, ModelSizes.Of(config).Parameters, Methods = all }];
            Output.Json(new { Schema = 1, Settings = new { options.Rank, options.TargetModules, options.BatchSize, MaxSeqLength = options.SequenceLength, options.GradientCheckpointing, Device = "cpu" }, Estimates = list });
            return;
        }

        RenderArithmetic(all);
    }

    private MemoryOptions Options(ParseResult parsed) => new()
    {
        Rank = parsed.GetValue(_rank),
        TargetModules = parsed.GetValue(_targets)?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) ?? [],
        BatchSize = parsed.GetValue(_batch),
        SequenceLength = parsed.GetValue(_length),
        DType = Enum.Parse<DType>(parsed.GetValue(_dtype)!, ignoreCase: true),
        GradientCheckpointing = parsed.GetValue(_checkpointing),
        QuantizationBlock = parsed.GetValue(_block),
        DoubleQuantization = parsed.GetValue(_double),
    };

    private static object Settings(MemoryOptions options) => new
    {
        options.Rank,
        options.TargetModules,
        options.BatchSize,
        MaxSeqLength = options.SequenceLength,
        Dtype = options.DType.ToString().ToLowerInvariant(),
        options.GradientCheckpointing,
        BlockSize = options.QuantizationBlock,
        DoubleQuant = options.DoubleQuantization,
        Optimizer = "adamw",
        options.OverheadBytes,
    };

    private static void RenderTable(IEnumerable<(string Name, MemoryEstimate[] All)> models)
    {
        FitTable table = new([new("model"), new("parameters", IsNumber: true), new("method"), new("trainable", IsNumber: true), new("memory", IsNumber: true), .. MemoryEstimate.Devices.Select(size => new FitColumn($"{size} GB"))]);
        foreach ((string name, MemoryEstimate[] all) in models)
        {
            foreach (MemoryEstimate estimate in all)
            {
                table.AddRow([name, $"{estimate.TotalParameters:N0}", estimate.Method, $"{estimate.TrainableParameters:N0}", Sizes.Text(estimate.TotalBytes), .. Marks(estimate)]);
            }
        }

        table.Write(Output.Human);
    }

    private static void RenderArithmetic(MemoryEstimate[] estimates)
    {
        foreach (MemoryEstimate estimate in estimates)
        {
            Table table = new Table().AddColumns("part", "memory", "arithmetic");
            table.Title = new TableTitle($"{estimate.Method}: {estimate.TrainableParameters:N0} of {estimate.TotalParameters:N0} parameters are trained");
            foreach (MemoryLine line in estimate.Lines)
            {
                table.AddRow(line.Part, Sizes.Text(line.Bytes), Markup.Escape(line.Arithmetic));
            }

            string fits = string.Join(", ", MemoryEstimate.Devices.Zip(Marks(estimate), (size, mark) => $"{size} GB {mark}"));
            table.AddRow("total", Sizes.Text(estimate.TotalBytes), "fits: " + fits);
            Output.Human.Write(table);
        }
    }

    private static string[] Marks(MemoryEstimate estimate) => [.. estimate.Fits.Values.Select(fits => fits ? "yes" : "no")];

    private static void RenderAssumptions(MemoryOptions options, bool table)
    {
        string targets = options.TargetModules.Count > 0 ? string.Join(", ", options.TargetModules) : table ? "q_proj, v_proj" : "PEFT's default targets";
        Output.Text.WriteLine(
            $"batch {options.BatchSize} × {options.SequenceLength:N0} tokens, {options.DType}, rank {options.Rank} on {targets}, AdamW, gradient checkpointing {(options.GradientCheckpointing ? "on" : "off")}; GB = 10^9 bytes");
        if (table)
        {
            Output.Text.WriteLine("for the arithmetic of a model of yours: nibble estimate FOLDER");
        }
    }
}
