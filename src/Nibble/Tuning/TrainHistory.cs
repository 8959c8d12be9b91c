namespace Nibble.Tuning;

/// <summary>What has happened in a training so far; checkpoints hold it, so that a resumed training goes on as if never interrupted.</summary>
internal sealed class TrainHistory
{
    /// <summary>Every step.</summary>
    public List<StepReport> Steps { get; init; } = [];

    /// <summary>Every evaluation, that of the start included.</summary>
    public List<EvaluationReport> Evaluations { get; init; } = [];

    /// <summary>The evaluation with the smallest loss.</summary>
    public EvaluationReport? Best => Evaluations.MinBy(evaluation => evaluation.Loss);

    /// <summary>Evaluations since the best one.</summary>
    public int SinceBest => Best is { } best ? Evaluations.Count - 1 - Evaluations.IndexOf(best) : 0;
}
