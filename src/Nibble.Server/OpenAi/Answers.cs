using System.Text.Json.Serialization;
using Nibble.Generation;

namespace Nibble.Server.OpenAi;

/// <summary>Tokens of a request's prompts and answers.</summary>
internal sealed record Usage(int PromptTokens, int CompletionTokens, int TotalTokens, PromptDetails PromptTokensDetails);

/// <summary>Tokens of prompts that did not have to run again.</summary>
internal sealed record PromptDetails(int CachedTokens);

/// <summary>What a request of one kind is answered with: a whole document, or the events of a stream.</summary>
internal interface IAnswerForm
{
    /// <summary>Name of the request's path, for the log.</summary>
    string Kind { get; }

    /// <summary>The events before the first token of each choice.</summary>
    IEnumerable<object> Begin();

    /// <summary>The events of a piece, with what came before it noted.</summary>
    IEnumerable<object> Add(Piece piece);

    /// <summary>The last event of a stream, with the numbers of tokens.</summary>
    object Last(Usage usage);

    /// <summary>The whole answer of what was added.</summary>
    object Whole(Usage usage);
}

/// <summary>What every document and event begins with.</summary>
internal sealed record Head(string Id, string Object, long Created, string Model, string SystemFingerprint);

/// <summary>A document or an event: head, choices, usage.</summary>
internal sealed record Envelope(string Id, string Object, long Created, string Model, string SystemFingerprint, object[] Choices)
{
    public Envelope(Head head, params object[] choices)
        : this(head.Id, head.Object, head.Created, head.Model, head.SystemFingerprint, choices)
    {
    }

    /// <summary>Absent in the events of a stream that does not tell it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Usage? Usage { get; init; }
}

/// <summary>Words of OpenAI for what Nibble calls otherwise.</summary>
internal static class Words
{
    /// <summary>A log probability; JSON has no infinity, for which OpenAI writes -9999.</summary>
    public static double Of(double logProbability) => Math.Max(logProbability, -9999);

    public static string? Of(FinishReason? reason) => reason switch
    {
        null => null,
        FinishReason.Stop => "stop",
        _ => "length",
    };
}
