namespace Nibble.Tuning;

/// <summary>Is told what happens in a training while it runs, on the thread that trains: whoever takes long here slows the training.</summary>
public interface ITrainingObserver
{
    /// <summary>The first step comes next, after an evaluation where there is held-out data.</summary>
    void Started(TrainingStart start);

    /// <summary>A step is done.</summary>
    void Stepped(StepReport step);

    /// <summary>The held-out data was measured.</summary>
    void Evaluated(EvaluationReport evaluation);
}

/// <summary>A training that is about to begin, or to go on.</summary>
/// <param name="Plan">What is trained.</param>
/// <param name="TotalSteps">Steps of the whole training.</param>
/// <param name="Steps">Steps that an earlier process did; empty unless it is resumed.</param>
/// <param name="Evaluations">Its evaluations.</param>
/// <param name="Joules">Energy since the first step of this process; null before it.</param>
/// <param name="DevicePeakBytes">Most bytes of a card in use at once so far; null on the processor.</param>
public sealed record TrainingStart(
    FineTunePlan Plan, int TotalSteps, IReadOnlyList<StepReport> Steps, IReadOnlyList<EvaluationReport> Evaluations, Func<double?> Joules, Func<long?> DevicePeakBytes);
