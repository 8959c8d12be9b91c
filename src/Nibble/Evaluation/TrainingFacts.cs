namespace Nibble.Evaluation;

/// <summary>What a training did to the model that was then measured: from the document of <c>finetune</c>.</summary>
public sealed record TrainingFacts
{
    /// <summary>Its method: <c>full</c>, <c>qlora</c>, <c>bitnet</c> …</summary>
    public required string Method { get; init; }

    /// <summary>What was kept, trained and computed in which numbers, in words.</summary>
    public required string Precision { get; init; }

    /// <summary>Numbers that were trained.</summary>
    public long TrainableParameters { get; init; }

    /// <summary>Numbers of the base.</summary>
    public long TotalParameters { get; init; }

    /// <summary>Rows of the data.</summary>
    public int TrainRows { get; init; }

    /// <summary>Steps.</summary>
    public int Steps { get; init; }

    /// <summary>Seconds of the training alone.</summary>
    public double TrainingSeconds { get; init; }

    /// <summary>The process's largest resident set without mapped file pages.</summary>
    public long PeakMemoryBytes { get; init; }
}
