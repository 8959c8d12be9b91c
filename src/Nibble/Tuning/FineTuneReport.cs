using Nibble.Formats;
using Nibble.Models;

namespace Nibble.Tuning;

/// <summary>What a fine-tuning will train and need: known from the config alone.</summary>
/// <param name="TrainableParameters">Numbers that are trained.</param>
/// <param name="TotalParameters">Numbers of the base, tied ones once.</param>
/// <param name="Modules">Layers that get adapters.</param>
/// <param name="Memory">The estimate of the memory.</param>
public sealed record FineTunePlan(long TrainableParameters, long TotalParameters, IReadOnlyList<string> Modules, MemoryEstimate Memory)
{
    /// <summary>Makes the plan.</summary>
    /// <exception cref="IO.NibbleException">No training takes these settings together.</exception>
    public static FineTunePlan Of(ModelConfig config, FineTuneOptions options)
    {
        TuningMethod.Require(options);
        if (options is { Classification: true, Labels: { } labels })
        {
            config = ClassificationHead.With(config, labels);
        }

        (long trainable, IReadOnlyList<string> modules) = TuningMethod.Trained(config, options);
        ModelSizes sizes = ModelSizes.Of(config);
        string method = !options.UsesAdapter ? "full" : options.Method == "qlora" || options.Quantization is not null ? "qlora" : "lora";
        return new FineTunePlan(trainable, sizes.Parameters.Total, modules, new MemoryEstimate(method, sizes.Parameters.Total, trainable, TrainingMemory.Lines(config, options)));
    }
}

/// <summary>Energy of a training.</summary>
/// <param name="Joules">What the training needed; of a card above what it draws while it waits.</param>
/// <param name="Source"><c>nvml</c>, <c>rapl</c> or <c>estimate</c>.</param>
/// <param name="Description">How the number came about.</param>
/// <param name="IdleWatts">What the card drew while it waited; null for a processor.</param>
public sealed record TuningEnergy(double Joules, string Source, string Description, double? IdleWatts)
{
    /// <summary>Reads a meter.</summary>
    internal static TuningEnergy Of(Energy.IEnergyMeter meter) => new(meter.Joules(), meter.Source, (meter as Energy.NvmlMeter)?.Numbers ?? meter.Description, (meter as Energy.NvmlMeter)?.IdleWatts);
}

/// <summary>What a fine-tuning did.</summary>
public sealed record FineTuneReport
{
    /// <summary>The plan.</summary>
    public required FineTunePlan Plan { get; init; }

    /// <summary>Rows, texts and tokens of the data.</summary>
    public required int TrainRows { get; init; }

    /// <summary>Rows of the data that were left out.</summary>
    public required int SkippedRows { get; init; }

    /// <summary>Examples that were cut at the row length.</summary>
    public required int TruncatedRows { get; init; }

    /// <summary>Every step made in this run.</summary>
    public required IReadOnlyList<StepReport> Log { get; init; }

    /// <summary>Every evaluation during the training.</summary>
    public IReadOnlyList<EvaluationReport> Evaluations { get; init; } = [];

    /// <summary>The model on the held-out data before; null without such data.</summary>
    public EvaluationReport? Before { get; init; }

    /// <summary>The same after.</summary>
    public EvaluationReport? After { get; init; }

    /// <summary>Mean −log p of the held-out data before; null without such data.</summary>
    public double? HeldOutBefore => Before?.Loss;

    /// <summary>The same after.</summary>
    public double? HeldOutAfter => After?.Loss;

    /// <summary>What is kept, trained and computed in which numbers.</summary>
    public required string Precision { get; init; }

    /// <summary>Names of the labels of a classifier.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>True if the training ended early because the held-out data got no better.</summary>
    public bool StoppedEarly { get; init; }

    /// <summary>The process's largest resident set without mapped file pages, in bytes.</summary>
    public long PeakMemoryBytes { get; init; }

    /// <summary>Scored tokens of the held-out data.</summary>
    public long? HeldOutTokens { get; init; }

    /// <summary>Seconds of the training alone.</summary>
    public required double TrainingSeconds { get; init; }

    /// <summary>Energy of the training alone.</summary>
    public required TuningEnergy Energy { get; init; }

    /// <summary>Most bytes of a card in use at once; null on the processor.</summary>
    public long? DevicePeakMemoryBytes { get; init; }

    /// <summary>Bytes of weights in memory.</summary>
    public required long WeightBytes { get; init; }

    /// <summary>Bytes of activations, gradients and optimizer states.</summary>
    public required long StateBytes { get; init; }

    /// <summary>True if it was interrupted before the last step; a checkpoint is then in the output.</summary>
    public required bool Interrupted { get; init; }

    /// <summary>Tokens that ran per second, padding left out.</summary>
    public double TokensPerSecond => Log.Sum(step => (double)step.RunTokens) / Math.Max(1e-9, Log.Sum(step => step.Seconds));
}
