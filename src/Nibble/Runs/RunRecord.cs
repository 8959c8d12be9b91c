using System.Text.Json;

namespace Nibble.Runs;

/// <summary>How a run ended.</summary>
public enum RunEnd
{
    /// <summary>It did what it was asked to.</summary>
    Finished,

    /// <summary>It ended with an error.</summary>
    Failed,

    /// <summary>It was asked to stop, and did.</summary>
    Interrupted,
}

/// <summary>What is known of a run when it starts.</summary>
/// <param name="Kind">eval, compare, finetune, quantize.</param>
/// <param name="Model">The model's name.</param>
/// <param name="Method">The method.</param>
/// <param name="Configuration">JSON of everything that was chosen.</param>
/// <param name="Environment">JSON of machine and versions.</param>
public sealed record NewRun(string Kind, string Model, string Method, string Configuration, string Environment)
{
    /// <summary>The folder or file that it writes, as a full path; null if none.</summary>
    public string? Output { get; init; }

    /// <summary>The earlier run that it goes on from.</summary>
    public long? Resumes { get; init; }
}

/// <summary>One run as the store lists it.</summary>
/// <param name="Id">Number of the run.</param>
/// <param name="Kind">eval, compare, finetune, quantize.</param>
/// <param name="Started">When, UTC, ISO 8601.</param>
/// <param name="Finished">When, or null.</param>
/// <param name="Status">running, finished, failed, interrupted; lost for one whose process is gone although it never said how it ended.</param>
/// <param name="Model">The model's name.</param>
/// <param name="Method">The method.</param>
/// <param name="Configuration">JSON of everything that was chosen.</param>
/// <param name="Environment">JSON of machine and versions.</param>
/// <param name="Output">The folder or file that it writes; null if none.</param>
/// <param name="Resumes">The earlier run that it goes on from.</param>
/// <param name="Progress">Share that is done, 0 to 1; null where nobody said.</param>
/// <param name="Note">Why it failed, or how to go on.</param>
/// <param name="Beat">The last sign of life of a run that works, UTC.</param>
public sealed record RunRecord(
    long Id,
    string Kind,
    string Started,
    string? Finished,
    string Status,
    string Model,
    string Method,
    string Configuration,
    string Environment,
    string? Output,
    long? Resumes,
    double? Progress,
    string? Note,
    string? Beat)
{
    /// <summary>The status of a run that works.</summary>
    public const string Running = "running";

    /// <summary>The status of a run whose process ended without a word.</summary>
    public const string Lost = "lost";

    /// <summary>Every status.</summary>
    public static IReadOnlyList<string> Statuses { get; } = [Running, "finished", "failed", "interrupted", Lost];

    /// <summary>A configuration or an environment as a document; null where it is none, as other programs may write into the file, too.</summary>
    internal static JsonElement? Document(string json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>Which runs are wanted; what is null does not matter.</summary>
public sealed record RunFilter
{
    /// <summary>Kind.</summary>
    public string? Kind { get; init; }

    /// <summary>Name of the model.</summary>
    public string? Model { get; init; }

    /// <summary>Method.</summary>
    public string? Method { get; init; }

    /// <summary>One of <see cref="RunRecord.Statuses"/>.</summary>
    public string? Status { get; init; }

    /// <summary>A part of kind, model, method, output, note or configuration, whatever its case.</summary>
    public string? Text { get; init; }

    /// <summary>Only runs with smaller numbers: the next page.</summary>
    public long? Before { get; init; }
}

/// <summary>A number of a run; <paramref name="Step"/> counts steps of a training and is 0 elsewhere.</summary>
/// <param name="Name">Metric.</param>
/// <param name="Step">Step.</param>
/// <param name="Value">Value.</param>
/// <param name="Low">Lower end of its interval.</param>
/// <param name="High">Upper end of its interval.</param>
public sealed record RunMetric(string Name, long Step, double Value, double? Low = null, double? High = null);

/// <summary>A file that a run made.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Path">Where it is.</param>
/// <param name="Bytes">Its size.</param>
public sealed record RunArtefact(string Name, string Path, long Bytes);
