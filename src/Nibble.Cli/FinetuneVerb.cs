using System.CommandLine;
using System.Diagnostics;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tuning;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble finetune</c>: trains an adapter, or all of a model.</summary>
internal sealed class FinetuneVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        FinetuneArguments arguments = new();
        Option<bool> dryRun = CommonOptions.DryRun(), json = CommonOptions.Json();
        Command command = new("finetune", "Fine-tune a model: full, LoRA, or QLoRA over a quantized base.") { dryRun, json };
        arguments.AddTo(command);
        command.SetAction(parsed =>
        {
            FineTuneOptions options = arguments.Read(parsed, parsed.GetValue(dryRun));
            return parsed.GetValue(dryRun) ? Plan(options, parsed.GetValue(json)) : Run(options, parsed.GetValue(json), cancellation);
        });
        return command;
    }

    private static int Plan(FineTuneOptions options, bool json)
    {
        FineTunePlan plan = FineTunePlan.Of(ModelConfig.Open(options.Model), options);
        if (json)
        {
            Output.Json(new { Schema = 1, options.Model, options.Method, plan.TrainableParameters, plan.TotalParameters, Memory = Memory(plan), Settings = Settings(options), plan.Modules });
            return 0;
        }

        Table table = new Table().AddColumns("part", "memory", "arithmetic");
        foreach (Models.MemoryLine line in plan.Memory.Lines)
        {
            table.AddRow(line.Part, Sizes.Text(line.Bytes), Markup.Escape(line.Arithmetic));
        }

        table.AddRow("total", Sizes.Text(plan.Memory.TotalBytes), string.Empty);
        Output.Human.WriteLine($"trainable parameters: {plan.TrainableParameters:N0} of {plan.TotalParameters:N0}, in {plan.Modules.Count:N0} layers");
        Output.Human.Write(table);
        return 0;
    }

    private static int Run(FineTuneOptions options, bool json, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        Output.Human.WriteLine($"{options.Method} of {options.Model}, seed {options.Trainer.Seed}");
        Progress progress = new();
        FineTuneReport report = FineTune.Run(options, progress.Show, Output.Human.WriteLine, cancellation);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        if (report.Interrupted)
        {
            Output.Human.WriteLine($"interrupted after step {report.Log.LastOrDefault()?.Step}: go on with --resume");
        }
        else
        {
            Output.Human.WriteLine($"saved in {options.Output}: {report.TokensPerSecond:N0} tokens/s, {seconds:F0} s in all");
        }

        if (json)
        {
            Output.Json(Document(options, report, seconds));
        }

        return report.Interrupted ? (int)ErrorKind.Interrupted : 0;
    }

    private static object Document(FineTuneOptions options, FineTuneReport report, double seconds) => new
    {
        Schema = 1,
        options.Model,
        options.Method,
        Settings = Settings(options),
        options.Trainer.Seed,
        report.Plan.TrainableParameters,
        report.Plan.TotalParameters,
        Memory = Memory(report.Plan),
        report.TrainRows,
        report.SkippedRows,
        report.TruncatedRows,
        Steps = report.Log.Count,
        TrainLossFirst = report.Log.FirstOrDefault()?.Loss,
        TrainLossLast = report.Log.LastOrDefault()?.Loss,
        HeldoutNllBefore = report.HeldOutBefore,
        HeldoutNllAfter = report.HeldOutAfter,
        HeldoutTokens = report.HeldOutTokens,
        report.TokensPerSecond,
        report.TrainingSeconds,
        TotalSeconds = seconds,
        report.WeightBytes,
        report.StateBytes,
        options.Output,
        report.Interrupted,
    };

    private static object Memory(FineTunePlan plan) => new { plan.Memory.TotalBytes, Parts = plan.Memory.Lines };

    private static object Settings(FineTuneOptions options) => new
    {
        options.Data,
        Quantization = options.Method == "qlora" ? options.Quantization?.ToString() ?? "nf4 double_quant=true" : null,
        Rank = options.UsesAdapter ? options.Lora.Rank : (int?)null,
        Alpha = options.UsesAdapter ? options.Lora.Alpha : (double?)null,
        Dropout = options.UsesAdapter ? options.Lora.Dropout : (double?)null,
        TargetModules = options.UsesAdapter ? options.Lora.TargetModules : null,
        options.Trainer.BatchSize,
        options.Trainer.GradAccumulationSteps,
        options.Trainer.MaxSeqLength,
        options.Trainer.Epochs,
        options.Trainer.MaxSteps,
        options.Trainer.LearningRate,
        Schedule = options.Trainer.Schedule.ToString().ToLowerInvariant(),
        options.Trainer.WarmupRatio,
        options.Trainer.Optimizer.WeightDecay,
        options.Trainer.MaxGradNorm,
        options.Trainer.GradientCheckpointing,
    };

    /// <summary>One line that is written over on a terminal; a line every few seconds elsewhere.</summary>
    private sealed class Progress
    {
        private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);
        private readonly long _start = Stopwatch.GetTimestamp();
        private long _last;
        private double _seconds, _tokens;

        public void Show(StepReport step)
        {
            _seconds += step.Seconds;
            _tokens += step.Tokens;
            bool terminal = !Console.IsErrorRedirected, last = step.Step == step.Steps;
            if (!terminal && !last && _last != 0 && Stopwatch.GetElapsedTime(_last) < Pause)
            {
                return;
            }

            _last = Stopwatch.GetTimestamp();
            double left = (step.Steps - step.Step) * Stopwatch.GetElapsedTime(_start).TotalSeconds / Math.Max(1, step.Step);
            string text = $"step {step.Step}/{step.Steps}  loss {step.Loss:F4}  norm {step.GradientNorm:F2}  lr {step.LearningRate:E1}  {_tokens / _seconds:N0} tokens/s  {left:F0} s left";
            Console.Error.Write(terminal ? "\r\x1b[K" + text + (last ? "\n" : string.Empty) : text + "\n");
        }
    }
}
