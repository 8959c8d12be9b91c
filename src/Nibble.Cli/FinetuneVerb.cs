using System.CommandLine;
using System.Diagnostics;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.Hub;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Tuning;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble finetune</c>: trains an adapter, or all of a model, also through a quantizer.</summary>
internal sealed class FinetuneVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        FinetuneArguments arguments = new();
        Option<bool> dryRun = CommonOptions.DryRun(), json = CommonOptions.Json();
        Command command = new("finetune", "Fine-tune a model: full, through a quantizer (QAT, BitNet), or an adapter (LoRA, DoRA, IA3, prefix, prompt) beside a dense or quantized base.") { dryRun, json };
        arguments.AddTo(command);
        command.SetAction(parsed =>
        {
            FineTuneOptions options = arguments.Read(parsed, parsed.GetValue(dryRun));
            if (arguments.Unused(parsed) is { Count: > 0 } unused)
            {
                Output.Text.WriteLine($"note: {string.Join(", ", unused)}: not used by --method {options.Method}");
            }

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
        Output.Text.WriteLine($"trainable parameters: {plan.TrainableParameters:N0} of {plan.TotalParameters:N0}, in {plan.Modules.Count:N0} layers");
        Output.Human.Write(table);
        return 0;
    }

    private static int Run(FineTuneOptions options, bool json, CancellationToken cancellation)
    {
        Output.Text.WriteLine($"{options.Method} of {options.Model}, seed {options.Trainer.Seed}");
        // What is no model is refused before a run is recorded.
        _ = ModelConfig.Open(options.Model);
        using LiveRun run = RunRecording.Start(store => Describe(store, options));
        return run.While(() => Train(options, run, json, cancellation));
    }

    private static int Train(FineTuneOptions options, LiveRun run, bool json, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        TrainingProgress progress = new();
        TrainingRecorder recorder = new(run);
        FineTuneReport report = FineTune.Run(options, progress.Show, Output.Text.WriteLine, cancellation, recorder);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        recorder.Ended(report, seconds);
        if (report.Interrupted)
        {
            string next = $"interrupted after step {report.Log.LastOrDefault()?.Step}: go on with --resume";
            Output.Text.WriteLine(next);
            run.Finish(RunEnd.Interrupted, next, LiveRun.FilesOf(options.Output!));
        }
        else
        {
            Output.Text.WriteLine($"saved in {options.Output}: {report.TokensPerSecond:N0} tokens/s, {seconds:F0} s in all; {report.Energy.Joules:N0} J ({report.Energy.Description})");
            Output.Text.WriteLine(Next(options));
            run.Finish(RunEnd.Finished, artefacts: LiveRun.FilesOf(options.Output!));
        }

        if (json)
        {
            Output.Json(Document(options, report, seconds));
        }

        return report.Interrupted ? (int)ErrorKind.Interrupted : 0;
    }

    /// <summary>The training as the run store knows it; one that is resumed is a run of its own, which names the one before.</summary>
    private static NewRun Describe(RunStore store, FineTuneOptions options)
    {
        string output = Path.TrimEndingDirectorySeparator(Path.GetFullPath(options.Output!));
        object configuration = new
        {
            options.Model, options.Method, options.Output, options.Resume, Task = options.Classification ? "classification" : "causal", options.Labels, options.EvalData, options.Split, options.EvalSplit,
            Format = options.Format.ToString().ToLowerInvariant(), options.ChatTemplate, options.Streaming, options.SkipBad, options.FromScratch, options.Device, options.Threads,
            Activations = options.Activations.ToString().ToLowerInvariant(), options.Trainer.Seed, options.Trainer.EvalSteps, options.Trainer.EarlyStopping, options.Trainer.SaveSteps,
            options.Trainer.WarmupSteps, options.Trainer.DecayRatio, options.Trainer.Optimizer.Beta2, options.Trainer.Optimizer.Momentum,
            Settings = Settings(options), Precision = TuningMethod.Precision(options),
        };
        return new NewRun("finetune", HubCache.Called(options.Model), options.Method, RunRecorder.Json(configuration), RunRecorder.Json(EnvironmentFacts.Read()))
        {
            Output = output,
            Resumes = options.Resume ? store.FindOutput("finetune", output)?.Id : null,
        };
    }

    private static string Next(FineTuneOptions options) => options switch
    {
        { Classification: true } => $"next: nibble eval {(options.UsesAdapter ? $"{options.Model} --adapter {options.Output}" : options.Output)} --tasks classification --data DATA",
        { UsesAdapter: true } => $"next: nibble generate {options.Model} --adapter {options.Output} --prompt \"…\"",
        _ => $"next: nibble generate {options.Output} --prompt \"…\"",
    };

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
        HeldoutAccuracyBefore = report.Before?.Accuracy,
        HeldoutAccuracyAfter = report.After?.Accuracy,
        HeldoutMacroF1Before = report.Before?.MacroF1,
        HeldoutMacroF1After = report.After?.MacroF1,
        Labels = report.Labels.Count > 0 ? report.Labels : null,
        report.Evaluations,
        report.StoppedEarly,
        report.Precision,
        report.PeakMemoryBytes,
        report.DevicePeakMemoryBytes,
        EnergyJoules = report.Energy.Joules,
        EnergySource = report.Energy.Source,
        EnergyDescription = report.Energy.Description,
        EnergyIdleWatts = report.Energy.IdleWatts,
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
        Quantization = options.Quantization?.ToString() ?? (options.Method switch { "qlora" => "nf4 double_quant=true", "qat" => "rtn bits=4", "bitnet" => "ternary", _ => null }),
        options.LambdaWarmupRatio,
        Rank = IsLowRank(options) ? options.Lora.Rank : (int?)null,
        Alpha = IsLowRank(options) ? options.Lora.Alpha : (double?)null,
        Dropout = IsLowRank(options) ? options.Lora.Dropout : (double?)null,
        Init = IsLowRank(options) ? options.Lora.Init.ToString().ToLowerInvariant() : null,
        LoraplusRatio = IsLowRank(options) && options.Lora.RateRatio != 1 ? options.Lora.RateRatio : (double?)null,
        TargetModules = IsLowRank(options) || options.Method == "ia3" ? options.Lora.TargetModules : null,
        RankPattern = IsLowRank(options) && options.Lora.RankPattern.Count > 0 ? options.Lora.RankPattern : null,
        AlphaPattern = IsLowRank(options) && options.Lora.AlphaPattern.Count > 0 ? options.Lora.AlphaPattern : null,
        VirtualTokens = options.Method is "prefix" or "prompt" ? options.VirtualTokens : (int?)null,
        Weights = options.UsesAdapter ? null : options.WeightDtype.ToString().ToLowerInvariant(),
        options.Trainer.BatchSize,
        options.Trainer.GradAccumulationSteps,
        options.Trainer.MaxSeqLength,
        options.Trainer.Epochs,
        options.Trainer.MaxSteps,
        options.Trainer.LearningRate,
        Schedule = options.Trainer.Schedule.ToString().ToLowerInvariant(),
        options.Trainer.WarmupRatio,
        Optimizer = (options.Trainer.Optimizer.Paged ? "paged-" : string.Empty) + options.Trainer.Optimizer.Kind.ToString().ToLowerInvariant(),
        options.Trainer.Optimizer.WeightDecay,
        options.Trainer.Packing,
        options.Trainer.MaxGradNorm,
        options.Trainer.GradientCheckpointing,
    };

    private static bool IsLowRank(FineTuneOptions options) => options.Method is "lora" or "qlora" or "dora";
}
