using System.Diagnostics;
using Nibble.Data;
using Nibble.Energy;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Tuning;

/// <summary>A whole fine-tuning: load, measure, train, measure, save.</summary>
public sealed class FineTune : IDisposable
{
    private readonly FineTuneOptions _options;
    private readonly LoadedModel _model;
    private readonly PeftAdapter? _adapter;
    private readonly QuantizedTraining? _quantized;
    private readonly ParameterSet _parameters = new();
    private readonly FineTunePlan _plan;
    private readonly TuningData _data;
    private readonly Action<string>? _note;
    private readonly ITrainingObserver? _observer;
    private TrainHistory _history = new();
    private IEnergyMeter? _meter;

    private FineTune(FineTuneOptions options, FineTunePlan plan, TuningData data, LoadedModel model, Action<string>? note, ITrainingObserver? observer)
    {
        (_options, _plan, _data, _model, _note, _observer) = (options, plan, data, model, note, observer);
        if (options.QuantizedTraining is { } settings)
        {
            _quantized = new QuantizedTraining(model.Model, model.Config, settings);
            _quantized.AddTo(_parameters);
            return;
        }

        _adapter = TuningMethod.CreateAdapter(model.Model, model.Config, options, model.DenseMatrix);
        if (_adapter is null)
        {
            _parameters.AddAll(model.Model);
            return;
        }

        _adapter.Attach(model.Model);
        _adapter.AddTo(_parameters);
    }

    /// <summary>Runs a fine-tuning. A cancellation saves a checkpoint and ends.</summary>
    /// <exception cref="NibbleException">Anything about model, data or output that does not fit.</exception>
    public static FineTuneReport Run(
        FineTuneOptions options, Action<StepReport>? report = null, Action<string>? note = null, CancellationToken cancellation = default, ITrainingObserver? observer = null)
    {
        TuningMethod.Require(options);
        if (options.Data is null || options.Output is null)
        {
            Throw.Usage($"there is no {(options.Data is null ? "data" : "output")}", "a training reads texts and writes a folder", "name both");
        }

        if (!options.Resume)
        {
            OutputFolder.Check(options.Output!, options.Force);
        }

        using OutputLock held = OutputLock.Hold(options.Output!);
        TuningData data = new(options, note);
        options = options with { Labels = data.Labels };
        FineTunePlan plan = FineTunePlan.Of(ModelConfig.Open(options.Model), options);
        note?.Invoke($"trainable parameters: {plan.TrainableParameters:N0} of {plan.TotalParameters:N0} ({(double)plan.TrainableParameters / plan.TotalParameters:P2})");
        note?.Invoke(TuningMethod.Precision(options));
        RequireSpace(options, plan);
        bool isNew = !Directory.Exists(options.Output);
        try
        {
            using PeakMemory memory = new();
            using LoadedModel model = LoadedModel.Load(options.Model, TuningMethod.LoadOptionsOf(options, data.Labels));
            using FineTune run = new(options, plan, data, model, note, observer);
            return run.Train(report, cancellation) with { PeakMemoryBytes = memory.Bytes() };
        }
        catch when (isNew && Directory.Exists(options.Output) && !Directory.EnumerateFileSystemEntries(options.Output).Any())
        {
            // Nothing was trained: no folder stays that looks as if something were in it.
            Directory.Delete(options.Output);
            throw;
        }
    }

    // A disk that is too small in the beginning would cost the whole training at its end. Codes take at least a bit each.
    private static void RequireSpace(FineTuneOptions options, FineTunePlan plan)
    {
        long bytes = options switch
        {
            { QuantizedTraining: not null } => plan.TrainableParameters / 8,
            { UsesAdapter: true } => plan.TrainableParameters * sizeof(float),
            _ => plan.TrainableParameters * (options.WeightDtype == Tensors.DType.F32 ? 4 : 2),
        };
        if (AtomicFile.FreeBytes(Path.TrimEndingDirectorySeparator(options.Output!)) is { } free && free < bytes)
        {
            Throw.Resource($"the disk of {options.Output} has no room for the result of this training", $"{bytes:N0} bytes are needed, {free:N0} are free", "free space on the disk, or choose another output");
        }
    }

    /// <summary>Frees adapter and gradients; the model belongs to the caller.</summary>
    public void Dispose()
    {
        _quantized?.Dispose();
        _parameters.Dispose();
        _adapter?.Dispose();
    }

    private FineTuneReport Train(Action<StepReport>? report, CancellationToken cancellation)
    {
        int length = Math.Min(_options.Trainer.MaxSeqLength, _model.Facts.Context);
        _data.Tokenize(_model, length, _note);
        _note?.Invoke(_data.Describe(length));
        using Trainer trainer = new(_model.Model, _parameters, _data.Batches(), _options.Trainer, _adapter) { Quantized = _quantized };
        TrainCheckpoints checkpoints = new(_options.Output!, trainer, _options);
        _history = checkpoints.Start(_note);
        _observer?.Started(new TrainingStart(_plan, trainer.Steps, [.. _history.Steps], [.. _history.Evaluations], () => _meter?.Joules(), DevicePeakBytes));
        if (_history.Evaluations.Count == 0)
        {
            EvaluationReport? before = Evaluate(0, "before", cancellation);
            if (_options.Trainer.EarlyStopping > 0 && before is not null)
            {
                // A training that never gets better ends as it began.
                checkpoints.SaveBest();
            }
        }

        int first = trainer.Step;
        using IEnergyMeter meter = _meter = EnergyMeter.Start(_model.Backend);
        long start = Stopwatch.GetTimestamp();
        bool early = Run(trainer, checkpoints, report, cancellation);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        TuningEnergy energy = TuningEnergy.Of(meter);
        bool interrupted = !early && trainer.Step < trainer.Steps;
        EvaluationReport? after = null;
        if (interrupted)
        {
            checkpoints.Save(_history);
        }
        else
        {
            after = Finish(trainer, checkpoints);
        }

        return new FineTuneReport
        {
            Plan = _plan,
            Precision = TuningMethod.Precision(_options),
            Labels = _data.Labels ?? [],
            TrainRows = _data.Counts.Rows,
            SkippedRows = _data.Counts.Skipped,
            TruncatedRows = _data.Counts.Truncated,
            Log = [.. _history.Steps.Skip(first)],
            Evaluations = _history.Evaluations,
            Before = _history.Evaluations.FirstOrDefault(),
            After = after,
            HeldOutTokens = _data.HeldOut?.ScoredTokens,
            TrainingSeconds = seconds,
            Energy = energy,
            DevicePeakMemoryBytes = DevicePeakBytes(),
            WeightBytes = _model.Model.WeightBytes + (_adapter?.ByteLength ?? 0),
            StateBytes = trainer.StateBytes,
            Interrupted = interrupted,
            StoppedEarly = early,
        };
    }

    private long? DevicePeakBytes() => (_model.Backend as Backends.Cuda.CudaBackend)?.PeakBytes;

    /// <summary>The steps, with evaluations and checkpoints between them; true if it ended early.</summary>
    private bool Run(Trainer trainer, TrainCheckpoints checkpoints, Action<StepReport>? report, CancellationToken cancellation)
    {
        TrainerSettings settings = _options.Trainer;
        bool Exhausted() => settings.EarlyStopping > 0 && _history.SinceBest >= settings.EarlyStopping;
        while (trainer.Step < trainer.Steps && !Exhausted() && !cancellation.IsCancellationRequested)
        {
            StepReport step = trainer.RunStep();
            _history.Steps.Add(step);
            report?.Invoke(step);
            _observer?.Stepped(step);
            if (settings.EvalSteps > 0 && step.Step % settings.EvalSteps == 0 && step.Step < trainer.Steps)
            {
                EvaluationReport? evaluation = Evaluate(step.Step, $"after step {step.Step}", CancellationToken.None);
                if (settings.EarlyStopping > 0 && ReferenceEquals(evaluation, _history.Best))
                {
                    checkpoints.SaveBest();
                }
            }

            if (settings.SaveSteps > 0 && step.Step % settings.SaveSteps == 0)
            {
                checkpoints.Save(_history);
            }
        }

        return Exhausted() && trainer.Step < trainer.Steps;
    }

    /// <summary>Takes the best state, measures and saves the result.</summary>
    private EvaluationReport? Finish(Trainer trainer, TrainCheckpoints checkpoints)
    {
        EvaluationReport? after = _data.HeldOut is null ? null : Evaluate(trainer.Step, "after", CancellationToken.None);
        if (_options.Trainer.EarlyStopping > 0 && after is not null && !ReferenceEquals(after, _history.Best) && checkpoints.LoadBest())
        {
            after = _history.Best;
            _note?.Invoke($"the best evaluation was that of step {after!.Step}: its state is the result");
        }

        if (_quantized is not null)
        {
            _quantized.Write(_model.Config, _model.Path, _options.Output!);
        }
        else if (_adapter is null)
        {
            MergedModel.Write(_model.Model, _model.Config, _model.Path, null, _options.WeightDtype, _options.Output!);
        }
        else
        {
            _adapter.Save(_options.Output!);
            if (_data.Labels is not null)
            {
                // transformers' place for the names of labels; an adapter's own config has none.
                AtomicFile.WriteAllText(Path.Combine(_options.Output!, "config.json"), _model.Config.Root.Element.GetRawText());
            }
        }

        TrainingLog.Write(_options.Output!, _history);
        return after;
    }

    private EvaluationReport? Evaluate(int step, string when, CancellationToken cancellation)
    {
        if (_data.HeldOut is not { } heldOut)
        {
            return null;
        }

        _adapter?.Refresh();
        _quantized?.Refresh();
        EvaluationReport evaluation = HeldOut.Measure(_model.Model, heldOut, step, cancellation);
        _history.Evaluations.Add(evaluation);
        _observer?.Evaluated(evaluation);
        string classes = evaluation.Accuracy is null ? $"nats a token over {heldOut.ScoredTokens:N0} tokens" : $"nats, accuracy {evaluation.Accuracy:P1}, macro F1 {evaluation.MacroF1:F3} over {heldOut.Rows.Count:N0} rows";
        _note?.Invoke($"held out, {when}: {evaluation.Loss:F4} {classes}");
        return evaluation;
    }
}
