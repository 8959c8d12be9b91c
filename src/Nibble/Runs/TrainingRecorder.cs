using System.Diagnostics;
using Nibble.Tuning;

namespace Nibble.Runs;

/// <summary>
/// Turns a training into the numbers of a run. Long trainings get a point for several steps, so that a run is at most some thousand
/// rows: losses, norms and speeds are then means over these steps. The training's own log has every step.
/// </summary>
public sealed class TrainingRecorder(LiveRun run) : ITrainingObserver
{
    /// <summary>Most points of a curve.</summary>
    public const int MostPoints = 2000;

    // Asking the system and a card costs more than a step of a small model.
    private static readonly TimeSpan Between = TimeSpan.FromSeconds(1);

    private readonly List<StepReport> _open = [];
    private TrainingStart? _start;
    private int _every = 1;
    private long _clock, _asked;
    private double _before, _now;

    /// <inheritdoc/>
    public void Started(TrainingStart start)
    {
        _start = start;
        _every = (start.TotalSteps + MostPoints - 1) / MostPoints;
        run.Add(
            new("planned_steps", 0, start.TotalSteps), new("trainable_parameters", 0, start.Plan.TrainableParameters), new("total_parameters", 0, start.Plan.TotalParameters),
            new("steps_per_point", 0, _every));
        foreach (StepReport step in start.Steps)
        {
            _before = _now += step.Seconds;
            Point(step);
        }

        // An earlier process did them, and this one shows where it goes on.
        foreach (EvaluationReport evaluation in start.Evaluations)
        {
            Evaluated(evaluation);
        }

        run.Progress((double)start.Steps.Count / Math.Max(1, start.TotalSteps));
    }

    /// <inheritdoc/>
    public void Stepped(StepReport step)
    {
        if (_clock == 0)
        {
            _clock = Stopwatch.GetTimestamp();
            _before += step.Seconds;
        }

        // Evaluations and checkpoints between steps are part of how long it takes.
        _now = _before + Stopwatch.GetElapsedTime(_clock).TotalSeconds;
        run.Progress((double)step.Step / step.Steps);
        if (!Point(step) || (step.Step < step.Steps && _asked != 0 && Stopwatch.GetElapsedTime(_asked) < Between))
        {
            return;
        }

        _asked = Stopwatch.GetTimestamp();
        run.Add(new RunMetric("memory_bytes", step.Step, Environment.WorkingSet));
        if (_start?.Joules() is { } joules)
        {
            run.Add(new RunMetric("energy_so_far_joules", step.Step, joules));
        }

        if (_start?.DevicePeakBytes() is { } peak)
        {
            run.Add(new RunMetric("device_memory_bytes", step.Step, peak));
        }
    }

    /// <inheritdoc/>
    public void Evaluated(EvaluationReport evaluation)
    {
        run.Add(new RunMetric("heldout_nll", evaluation.Step, evaluation.Loss));
        if (evaluation is { Accuracy: { } accuracy, MacroF1: { } f1 })
        {
            run.Add(new("heldout_accuracy", evaluation.Step, accuracy), new("heldout_macro_f1", evaluation.Step, f1));
        }
    }

    /// <summary>The numbers of a training that has ended, under the names of <c>finetune --json</c>.</summary>
    /// <param name="report">What the training says.</param>
    /// <param name="seconds">Time of everything, loading and saving included.</param>
    public void Ended(FineTuneReport report, double seconds)
    {
        (string Name, double? Value)[] numbers =
        [
            ("steps", report.Log.Count), ("train_loss_first", report.Log.FirstOrDefault()?.Loss), ("train_loss_last", report.Log.LastOrDefault()?.Loss),
            ("heldout_nll_before", report.HeldOutBefore), ("heldout_nll_after", report.HeldOutAfter),
            ("heldout_accuracy_before", report.Before?.Accuracy), ("heldout_accuracy_after", report.After?.Accuracy),
            ("heldout_macro_f1_before", report.Before?.MacroF1), ("heldout_macro_f1_after", report.After?.MacroF1),
            ("heldout_tokens", report.HeldOutTokens), ("train_rows", report.TrainRows), ("skipped_rows", report.SkippedRows), ("truncated_rows", report.TruncatedRows),
            ("tokens_per_second", report.Log.Count > 0 ? report.TokensPerSecond : null), ("training_seconds", report.TrainingSeconds), ("total_seconds", seconds),
            ("peak_memory_bytes", report.PeakMemoryBytes), ("device_peak_memory_bytes", report.DevicePeakMemoryBytes), ("weight_bytes", report.WeightBytes), ("state_bytes", report.StateBytes),
            ("energy_joules", report.Energy.Joules), ("energy_idle_watts", report.Energy.IdleWatts),
        ];
        run.Add([.. numbers.Where(item => item.Value is not null).Select(item => new RunMetric(item.Name, 0, item.Value!.Value))]);
    }

    /// <summary>Adds a step to the point that is open, and says whether that made it a whole one.</summary>
    private bool Point(StepReport step)
    {
        _open.Add(step);
        if (step.Step % _every != 0 && step.Step != 1 && step.Step != step.Steps)
        {
            return false;
        }

        double tokens = _open.Sum(item => (double)item.Tokens), seconds = _open.Sum(item => item.Seconds);
        run.Add(
            new("train_loss", step.Step, _open.Sum(item => item.Loss * item.Tokens) / Math.Max(1, tokens)),
            new("gradient_norm", step.Step, _open.Average(item => item.GradientNorm)),
            new("learning_rate", step.Step, step.LearningRate),
            new("step_tokens_per_second", step.Step, _open.Sum(item => (double)item.RunTokens) / Math.Max(1e-9, seconds)),
            new("elapsed_seconds", step.Step, _now));
        _open.Clear();
        return true;
    }
}
