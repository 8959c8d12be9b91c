using System.Diagnostics;
using Nibble.Backends;
using Nibble.Data;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A whole fine-tuning: load, measure, train, measure, save.</summary>
public sealed class FineTune : IDisposable
{
    private readonly FineTuneOptions _options;
    private readonly LoadedModel _model;
    private readonly IAdapter? _adapter;
    private readonly ParameterSet _parameters = new();
    private readonly FineTunePlan _plan;

    private FineTune(FineTuneOptions options, FineTunePlan plan, LoadedModel model)
    {
        (_options, _plan, _model) = (options, plan, model);
        if (options.UsesAdapter)
        {
            LoraSettings settings = options.Lora with { BaseModel = options.Lora.BaseModel ?? options.Model };
            IReadOnlyList<LinearSpec> linears = Registry.Architecture(model.Config).Linears(model.Config);
            _adapter = LoraAdapter.Create(model.Model, linears, settings, CounterRandom.Key((ulong)options.Trainer.Seed));
            _adapter.Attach(model.Model);
            _adapter.AddTo(_parameters);
        }
        else
        {
            _parameters.AddAll(model.Model);
        }
    }

    /// <summary>Runs a fine-tuning. A cancellation saves a checkpoint and ends.</summary>
    /// <exception cref="NibbleException">Anything about model, data or output that does not fit.</exception>
    public static FineTuneReport Run(FineTuneOptions options, Action<StepReport>? report = null, Action<string>? note = null, CancellationToken cancellation = default)
    {
        if (!options.Resume)
        {
            OutputFolder.Check(options.Output!, options.Force);
        }

        FineTunePlan plan = FineTunePlan.Of(ModelConfig.Open(options.Model), options);
        note?.Invoke($"trainable parameters: {plan.TrainableParameters:N0} of {plan.TotalParameters:N0} ({(double)plan.TrainableParameters / plan.TotalParameters:P2})");
        using LoadedModel model = LoadedModel.Load(options.Model, LoadOptionsOf(options));
        using FineTune run = new(options, plan, model);
        return run.Train(report, note, cancellation);
    }

    /// <summary>Frees adapter and gradients; the model belongs to the caller.</summary>
    public void Dispose()
    {
        _parameters.Dispose();
        _adapter?.Dispose();
    }

    private static LoadOptions LoadOptionsOf(FineTuneOptions options)
    {
        bool dense = ModelConfig.Open(options.Model).QuantMethod is null;
        QuantizationSettings nf4 = new() { Method = "nf4", DoubleQuant = true };
        return new LoadOptions
        {
            Threads = options.Threads,
            Trainable = options.Method == "full",
            Quantization = options.Method == "qlora" && dense ? new PlanRequest(options.Quantization ?? nf4) : null,
        };
    }

    private FineTuneReport Train(Action<StepReport>? report, Action<string>? note, CancellationToken cancellation)
    {
        int length = Math.Min(_options.Trainer.MaxSeqLength, _model.Facts.Context);
        TrainingSet data = TrainingSetReader.Read(_options.Data!, _model.Tokenizer, length, _options.SkipBad);
        TrainingSet? heldOut = _options.EvalData is null ? null : TrainingSetReader.Read(_options.EvalData, _model.Tokenizer, length, _options.SkipBad);
        note?.Invoke($"data: {data.Documents:N0} texts, {data.Rows.Count:N0} rows of up to {length} tokens, {data.ScoredTokens:N0} scored");
        using Trainer trainer = new(_model.Model, _parameters, data, _options.Trainer);
        double? before = Measure(heldOut, "before", note, cancellation);
        TrainCheckpoints checkpoints = new(_options.Output!, trainer, _options);
        checkpoints.Start(note);
        List<StepReport> log = [];
        long start = Stopwatch.GetTimestamp();
        trainer.Run(
            step =>
            {
                log.Add(step);
                report?.Invoke(step);
                checkpoints.AfterStep();
            },
            cancellation);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        bool interrupted = trainer.Step < trainer.Steps;
        if (interrupted)
        {
            checkpoints.Save();
        }
        else
        {
            Save(log);
        }

        return new FineTuneReport
        {
            Plan = _plan,
            TrainRows = data.Rows.Count,
            SkippedRows = data.Skipped,
            TruncatedRows = data.Truncated,
            Log = log,
            HeldOutBefore = before,
            HeldOutAfter = interrupted ? null : Measure(heldOut, "after", note, cancellation),
            HeldOutTokens = heldOut?.ScoredTokens,
            TrainingSeconds = seconds,
            WeightBytes = _model.Model.WeightBytes + (_adapter?.ByteLength ?? 0),
            StateBytes = trainer.StateBytes,
            Interrupted = interrupted,
        };
    }

    private double? Measure(TrainingSet? heldOut, string when, Action<string>? note, CancellationToken cancellation)
    {
        if (heldOut is null)
        {
            return null;
        }

        double nll = HeldOut.Nll(_model.Model, heldOut, cancellation);
        note?.Invoke($"held out, {when}: {nll:F4} nats a token over {heldOut.ScoredTokens:N0} tokens");
        return nll;
    }

    private void Save(List<StepReport> log)
    {
        if (_adapter is not null)
        {
            _adapter.Save(_options.Output!);
        }
        else
        {
            MergedModel.Write(_model.Model, _model.Config, _model.Path, null, DType.F32, _options.Output!);
        }

        TrainingLog.Write(_options.Output!, log);
    }
}
