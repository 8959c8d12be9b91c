using System.Text;
using Nibble.Tokenization;

namespace Nibble.Generation;

/// <summary>One row of a batch: its tokens, its text, and whether it has ended.</summary>
internal sealed class GenerationRow
{
    private readonly List<int> _tokens = [];
    private readonly StringBuilder _text = new();
    private readonly TokenStreamDecoder? _decoder;
    private readonly StopStrings _stops;
    private readonly IReadOnlyCollection<int> _eosIds;
    private readonly int _most;
    private FinishReason? _finish;

    public GenerationRow(int[] prompt, Tokenizer? tokenizer, IReadOnlyCollection<int> eosIds, GenerationOptions options, int context)
    {
        PromptLength = prompt.Length;
        // Only a repetition penalty asks what was seen.
        Seen = options.RepetitionPenalty == 1 ? [] : [.. prompt];
        _decoder = tokenizer?.Stream();
        if (_decoder is not null)
        {
            // The beginning of a text is decoded differently from its middle (a space is dropped), so the prompt goes through too.
            foreach (int token in prompt)
            {
                _decoder.Add(token);
            }
        }

        _stops = new StopStrings(options.Stop);
        _eosIds = options.IgnoreEos ? [] : eosIds;
        _most = Math.Min(options.MaxTokens, context - prompt.Length + 1);
        TracksSeen = options.RepetitionPenalty != 1;
        Generated = options.PresencePenalty != 0 || options.FrequencyPenalty != 0 ? [] : null;
    }

    public int PromptLength { get; }

    public int NewTokens => _tokens.Count;

    public HashSet<int> Seen { get; }

    /// <summary>How often each new token came; null where nobody asks.</summary>
    public Dictionary<int, int>? Generated { get; }

    public bool Finished => _finish is not null;

    public GeneratedText Result => new(_text.ToString(), _tokens, PromptLength, _finish ?? FinishReason.Length);

    private bool TracksSeen { get; }

    /// <summary>Takes the next token by its logits.</summary>
    public GenerationStep Next(int number, ReadOnlySpan<float> logits, Sampler sampler, GenerationOptions options)
    {
        int token = sampler.Next(logits, Seen, NewTokens, Generated);
        (string text, FinishReason? finish) = Add(token);
        return new GenerationStep(number, token, text, finish) { Scores = options.TopLogProbabilities is { } count ? TokenScores.Of(logits, token, count) : null };
    }

    /// <summary>Adds a token: the text that is certain now, and why the row ends here, if it does.</summary>
    public (string Text, FinishReason? Finish) Add(int token)
    {
        _tokens.Add(token);
        if (TracksSeen)
        {
            Seen.Add(token);
        }

        if (Generated is not null)
        {
            Generated[token] = Generated.GetValueOrDefault(token) + 1;
        }

        bool end = _eosIds.Contains(token);
        string text = end || _decoder is null ? string.Empty : _stops.Add(_decoder.Add(token));
        _finish = end || _stops.Stopped ? FinishReason.Stop : _tokens.Count >= _most ? FinishReason.Length : null;
        if (Finished && !_stops.Stopped)
        {
            text += _stops.Add(_decoder?.Flush() ?? string.Empty) + _stops.Flush();
        }

        _text.Append(text);
        return (text, _finish);
    }
}
