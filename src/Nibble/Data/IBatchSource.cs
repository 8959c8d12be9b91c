using Nibble.Data.Streaming;
using Nibble.Tuning;

namespace Nibble.Data;

/// <summary>Where a training's batches come from, step after step.</summary>
internal interface IBatchSource : IDisposable
{
    /// <summary>Steps of one epoch; null where the data is not counted beforehand.</summary>
    int? StepsPerEpoch { get; }

    /// <summary>A training can only go on with data of the same fingerprint.</summary>
    string Fingerprint { get; }

    /// <summary>Where the next step begins; null where the step's number says that.</summary>
    StreamPosition? Position { get; }

    /// <summary>Goes on at a step, counted from 0.</summary>
    void GoTo(int step, StreamPosition? position);

    /// <summary>The passes of a step.</summary>
    IReadOnlyList<TrainingBatch> Batches(int step);

    /// <summary>Which rows a step had that was just taken.</summary>
    string Describe(int step);
}
