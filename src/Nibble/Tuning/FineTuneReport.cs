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
    public static FineTunePlan Of(ModelConfig config, FineTuneOptions options)
    {
        IArchitecture architecture = Registry.Architecture(config);
        IReadOnlyList<LinearSpec> linears = architecture.Linears(config);
        IReadOnlyList<LoraTarget> targets = options.UsesAdapter ? TargetModules.Find(linears, options.Lora) : [];
        ModelSizes sizes = ModelSizes.Of(config);
        MemoryEstimate memory = MemoryEstimate.Of(
            sizes,
            Enum.Parse<TuningMemory>(options.Method, ignoreCase: true),
            new MemoryOptions
            {
                Rank = options.Lora.Rank,
                TargetModules = [.. targets.Select(target => InBlock(target.Linear.Path)).Distinct()],
                BatchSize = options.Trainer.BatchSize,
                SequenceLength = options.Trainer.MaxSeqLength,
                GradientCheckpointing = options.Trainer.GradientCheckpointing,
            });
        long trainable = options.UsesAdapter ? targets.Sum(target => target.ParameterCount) : memory.TotalParameters;
        return new FineTunePlan(trainable, memory.TotalParameters, [.. targets.Select(target => target.Linear.Path)], memory);
    }

    /// <summary>The part of a path after the block's number.</summary>
    private static string InBlock(string path)
    {
        string[] parts = path.Split('.');
        return string.Join('.', parts.SkipWhile(part => !int.TryParse(part, out _)).Skip(1));
    }
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

    /// <summary>Mean −log p of the held-out data before; null without such data.</summary>
    public double? HeldOutBefore { get; init; }

    /// <summary>The same after.</summary>
    public double? HeldOutAfter { get; init; }

    /// <summary>Scored tokens of the held-out data.</summary>
    public long? HeldOutTokens { get; init; }

    /// <summary>Seconds of the training alone.</summary>
    public required double TrainingSeconds { get; init; }

    /// <summary>Bytes of weights in memory.</summary>
    public required long WeightBytes { get; init; }

    /// <summary>Bytes of activations, gradients and optimizer states.</summary>
    public required long StateBytes { get; init; }

    /// <summary>True if it was interrupted before the last step; a checkpoint is then in the output.</summary>
    public required bool Interrupted { get; init; }

    /// <summary>Trained tokens per second.</summary>
    public double TokensPerSecond => Log.Sum(step => (double)step.Tokens) / Math.Max(1e-9, Log.Sum(step => step.Seconds));
}
