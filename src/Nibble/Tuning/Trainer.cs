using System.Diagnostics;
using Nibble.Backends;
using Nibble.Data;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>What one step did.</summary>
/// <param name="Step">Number of the step, from 1.</param>
/// <param name="Steps">Steps of the whole training.</param>
/// <param name="Loss">Mean −log p of the scored tokens of the step.</param>
/// <param name="GradientNorm">Norm of all gradients before clipping.</param>
/// <param name="LearningRate">Learning rate of the step.</param>
/// <param name="Tokens">Scored tokens of the step.</param>
/// <param name="Seconds">Time that it took.</param>
/// <param name="RunTokens">Tokens that ran through the model, scored or not, padding left out: speeds count these.</param>
public sealed record StepReport(int Step, int Steps, double Loss, double GradientNorm, double LearningRate, int Tokens, double Seconds, int RunTokens);

/// <summary>
/// Trains parameters. Everything that happens is a function of the settings, the seed and the number of the step, so a
/// training that goes on from a saved state equals one that was never interrupted.
/// </summary>
public sealed class Trainer : IDisposable
{
    private readonly TrainerSettings _settings;
    private readonly IBatchSource _batches;
    private readonly TrainingPass _pass;
    private readonly ParameterSet _parameters;

    /// <summary>Prepares a training.</summary>
    public Trainer(CausalModel model, ParameterSet parameters, TrainingSet data, TrainerSettings settings, IAdapter? adapter = null)
        : this(model, parameters, new Batcher(data, settings.BatchSize, settings.GradAccumulationSteps, CounterRandom.Key((ulong)settings.Seed)), settings, adapter)
    {
    }

    /// <summary>The same with batches from anywhere; the trainer disposes of them.</summary>
    internal Trainer(CausalModel model, ParameterSet parameters, IBatchSource batches, TrainerSettings settings, IAdapter? adapter = null)
    {
        (_settings, _parameters, _batches) = (settings, parameters, batches);
        _pass = new TrainingPass(model, parameters, settings.GradientCheckpointing, (adapter as PeftAdapter)?.Prompt) { Offloads = settings.OffloadCheckpoints };
        Optimizer = Optimizer.Create(parameters, model.Backend, settings.Optimizer);
        Backend = model.Backend;
        Steps = settings.MaxSteps ?? (int)Math.Ceiling(settings.Epochs * batches.StepsPerEpoch!.Value);
    }

    /// <summary>Steps of the whole training.</summary>
    public int Steps { get; }

    /// <summary>The quantizer through which the model is trained, or null.</summary>
    internal QuantizedTraining? Quantized { get; init; }

    /// <summary>Steps done.</summary>
    public int Step => Optimizer.Steps;

    /// <summary>Bytes of activations, gradients and optimizer states.</summary>
    public long StateBytes => _pass.PeakBytes + Optimizer.ByteLength + _parameters.ByteLength;

    internal IBatchSource Source => _batches;

    internal Optimizer Optimizer { get; }

    internal IBackend Backend { get; }

    internal ParameterSet Parameters => _parameters;

    /// <summary>Runs the remaining steps; a cancellation ends after the step that runs.</summary>
    public void Run(Action<StepReport>? report = null, CancellationToken cancellation = default)
    {
        while (Step < Steps && !cancellation.IsCancellationRequested)
        {
            StepReport done = RunStep();
            report?.Invoke(done);
        }
    }

    /// <summary>Runs one step.</summary>
    /// <exception cref="NibbleException">The loss or a gradient is no finite number: the parameters are those before the step.</exception>
    public StepReport RunStep()
    {
        long start = Stopwatch.GetTimestamp();
        int step = Step;
        IReadOnlyList<TrainingBatch> batches = _batches.Batches(step);
        int tokens = batches.Sum(batch => batch.ScoredTokens);
        Optimizer.ClearGradients();
        Quantized?.Prepare(step, Steps);
        double loss = 0;
        for (int i = 0; i < batches.Count; i++)
        {
            _pass.DropoutKey = CounterRandom.Key((ulong)_settings.Seed, (ulong)step, (ulong)i) | 1;
            loss += _pass.Run(batches[i], 1f / tokens);
        }

        loss /= tokens;
        double norm = Optimizer.GradientNorm();
        RequireGradient(step, loss, norm);
        double scale = _settings.MaxGradNorm > 0 && norm > _settings.MaxGradNorm ? _settings.MaxGradNorm / norm : 1;
        double learningRate = _settings.LearningRateAt(step, Steps);
        Optimizer.Step(learningRate, scale);
        Backend.Synchronize();
        return new StepReport(step + 1, Steps, loss, norm, learningRate, tokens, Stopwatch.GetElapsedTime(start).TotalSeconds, batches.Sum(batch => batch.Tokens));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _batches.Dispose();
        Optimizer.Dispose();
        _pass.Dispose();
    }

    private void RequireGradient(int step, double loss, double norm)
    {
        if (!double.IsFinite(loss) || !double.IsFinite(norm))
        {
            Throw.Failed(
                $"step {step + 1}: loss {loss}, gradient norm {norm} ({_batches.Describe(step)})",
                "a number overflowed: the learning rate is too high, or these rows are unusual",
                "lower --learning-rate, lower --max-grad-norm, or look at these rows");
        }

        if (norm == 0)
        {
            string[] dead = [.. _parameters.All.Where(parameter => Backend.Gradients.SumOfSquares(parameter.Values) == 0).Select(parameter => parameter.Name)];
            string why = dead.Length == _parameters.All.Count
                ? "every trained tensor is zero, so none changes what the others do"
                : "the loss depends on none of them: what they feed is multiplied by zeros, or their layers are not used";
            Throw.Failed(
                $"step {step + 1}: the gradients of all {_parameters.All.Count:N0} trained tensors are zero ({string.Join(", ", _parameters.All.Take(5).Select(parameter => parameter.Name))}{(_parameters.All.Count > 5 ? ", …" : string.Empty)})",
                why,
                "check --target-modules, and that the base's weights are not zero");
        }
    }
}
