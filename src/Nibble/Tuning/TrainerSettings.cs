namespace Nibble.Tuning;

/// <summary>How the learning rate changes.</summary>
public enum ScheduleKind
{
    /// <summary>Half a cosine down to 0.</summary>
    Cosine,

    /// <summary>A line down to 0.</summary>
    Linear,

    /// <summary>It does not, after the warm-up.</summary>
    Constant,

    /// <summary>Constant after the warm-up, then a line down to 0 (warmup-stable-decay, arXiv 2404.06395).</summary>
    WarmupStableDecay,
}

/// <summary>How a training runs. The defaults are those of the command.</summary>
public sealed record TrainerSettings
{
    /// <summary>Rows of one forward pass.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>Passes of one optimizer step; gradients are weighted by tokens, so the step equals that of one large batch.</summary>
    public int GradAccumulationSteps { get; init; } = 1;

    /// <summary>Most tokens of a row.</summary>
    public int MaxSeqLength { get; init; } = 512;

    /// <summary>Passes over the data.</summary>
    public double Epochs { get; init; } = 1;

    /// <summary>Steps, if given: wins over <see cref="Epochs"/>.</summary>
    public int? MaxSteps { get; init; }

    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 2e-4;

    /// <summary>Its course.</summary>
    public ScheduleKind Schedule { get; init; } = ScheduleKind.Cosine;

    /// <summary>With <see cref="ScheduleKind.WarmupStableDecay"/>: share of the steps, at the end, over which the learning rate falls.</summary>
    public double DecayRatio { get; init; } = 0.5;

    /// <summary>Share of the steps over which the learning rate rises.</summary>
    public double WarmupRatio { get; init; } = 0.03;

    /// <summary>Steps over which the learning rate rises, if given: wins over <see cref="WarmupRatio"/>.</summary>
    public int? WarmupSteps { get; init; }

    /// <summary>The optimizer.</summary>
    public OptimizerSettings Optimizer { get; init; } = new();

    /// <summary>Gradients are scaled down to this norm; 0 leaves them alone.</summary>
    public double MaxGradNorm { get; init; } = 1;

    /// <summary>Keep only the inputs of blocks and compute the rest again.</summary>
    public bool GradientCheckpointing { get; init; }

    /// <summary>With gradient checkpointing on a card: the inputs of all blocks but the last wait in pinned memory of the host. The numbers are the same.</summary>
    public bool OffloadCheckpoints { get; init; }

    /// <summary>Put several short examples into one row, each seeing only itself.</summary>
    public bool Packing { get; init; }

    /// <summary>Steps between evaluations on held-out data; 0 evaluates before and after only.</summary>
    public int EvalSteps { get; init; }

    /// <summary>Ends the training after this many evaluations in a row that were no better than the best, and keeps the best; 0 never.</summary>
    public int EarlyStopping { get; init; }

    /// <summary>Seed of data order, initialization and dropout.</summary>
    public int Seed { get; init; } = 1234;

    /// <summary>Steps between checkpoints; 0 writes none.</summary>
    public int SaveSteps { get; init; }

    /// <summary>The learning rate of a step, counted from 0.</summary>
    public double LearningRateAt(int step, int steps)
    {
        int warmup = WarmupSteps ?? (int)Math.Ceiling(WarmupRatio * steps);
        if (step < warmup)
        {
            return LearningRate * (step + 1) / warmup;
        }

        double progress = (double)(step - warmup) / Math.Max(1, steps - warmup);
        return Schedule switch
        {
            ScheduleKind.Linear => LearningRate * (1 - progress),
            ScheduleKind.WarmupStableDecay => LearningRate * Math.Min(1, (steps - step) / Math.Max(DecayRatio * steps, 1)),
            ScheduleKind.Cosine => LearningRate * 0.5 * (1 + Math.Cos(Math.PI * progress)),
            _ => LearningRate,
        };
    }
}
