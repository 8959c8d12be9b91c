using System.Text;
using System.Text.Json.Serialization;
using Nibble.Generation;

namespace Nibble.Server.OpenAi;

/// <summary>Answers of <c>/v1/chat/completions</c>.</summary>
internal sealed class ChatAnswer(Head head, ServedModel model, int choices, bool stream) : IAnswerForm
{
    private readonly Head _head = head with { Object = stream ? "chat.completion.chunk" : "chat.completion" };
    private readonly StringBuilder[] _texts = [.. Enumerable.Range(0, choices).Select(_ => new StringBuilder())];
    private readonly List<TokenEntry>?[] _scores = new List<TokenEntry>?[choices];
    private readonly FinishReason?[] _finish = new FinishReason?[choices];

    public string Kind => "chat";

    public IEnumerable<object> Begin() => Enumerable.Range(0, choices).Select(i => new Envelope(_head, new Chunk(i, new Delta("assistant", string.Empty), null, null)));

    public IEnumerable<object> Add(Piece piece)
    {
        (int i, GenerationStep step) = (piece.Index, piece.Step);
        // The token that ends an answer is no part of its text.
        bool told = step.Scores is not null && !model.EndsText(step.Token, chat: true);
        List<TokenEntry>? entry = step.Scores is null ? null : told ? [Entry(step)] : [];
        if (!stream)
        {
            _texts[i].Append(step.Text);
            _finish[i] = step.Finish;
            if (entry is not null)
            {
                (_scores[i] ??= []).AddRange(entry);
            }

            yield break;
        }

        if (step.Text.Length > 0 || told)
        {
            yield return new Envelope(_head, new Chunk(i, new Delta(null, step.Text), entry is null ? null : new ChatScores(entry, null), null));
        }

        if (step.Finish is not null)
        {
            yield return new Envelope(_head, new Chunk(i, new Delta(null, null), null, Words.Of(step.Finish)));
        }
    }

    public object Last(Usage usage) => new Envelope(_head) { Usage = usage };

    public object Whole(Usage usage) => new Envelope(_head, [.. _texts.Select((text, i) => new Choice(
        i, new Message("assistant", text.ToString(), null), _scores[i] is { } scores ? new ChatScores(scores, null) : null, Words.Of(_finish[i]))) ])
    {
        Usage = usage,
    };

    private TokenEntry Entry(GenerationStep step)
    {
        (string text, byte[] bytes) = model.Describe(step.Token);
        return new TokenEntry(text, Words.Of(step.Scores!.LogProbability), [.. bytes.Select(one => (int)one)], [.. step.Scores.Top.Select(top =>
        {
            (string other, byte[] raw) = model.Describe(top.Token);
            return new TopEntry(other, Words.Of(top.LogProbability), [.. raw.Select(one => (int)one)]);
        })]);
    }

    private sealed record Choice(int Index, Message Message, ChatScores? Logprobs, string? FinishReason);

    private sealed record Message(string Role, string Content, string? Refusal);

    private sealed record Chunk(int Index, Delta Delta, ChatScores? Logprobs, string? FinishReason);

    private sealed record Delta(
        [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Role,
        [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Content);

    private sealed record ChatScores(IReadOnlyList<TokenEntry> Content, object? Refusal);

    // Arrays of numbers: bytes would be written as base64.
    private sealed record TopEntry(string Token, double Logprob, int[] Bytes);

    private sealed record TokenEntry(string Token, double Logprob, int[] Bytes, TopEntry[] TopLogprobs);
}
