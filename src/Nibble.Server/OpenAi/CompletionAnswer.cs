using System.Text;
using Nibble.Generation;

namespace Nibble.Server.OpenAi;

/// <summary>Answers of <c>/v1/completions</c>; <paramref name="echoes"/> are texts before each choice, or empty.</summary>
internal sealed class CompletionAnswer(Head head, ServedModel model, int choices, bool stream, IReadOnlyList<string> echoes) : IAnswerForm
{
    private readonly Head _head = head with { Object = "text_completion" };
    private readonly StringBuilder[] _texts = [.. Enumerable.Range(0, choices).Select(i => new StringBuilder(echoes.Count > 0 ? echoes[i] : string.Empty))];
    private readonly CompletionScores?[] _scores = new CompletionScores?[choices];
    private readonly FinishReason?[] _finish = new FinishReason?[choices];
    private readonly int[] _offsets = new int[choices];

    public string Kind => "completion";

    public IEnumerable<object> Begin() => echoes.Select((echo, i) => new Envelope(_head, new Choice(i, echo, null, null)));

    public IEnumerable<object> Add(Piece piece)
    {
        (int i, GenerationStep step) = (piece.Index, piece.Step);
        bool told = step.Scores is not null && !model.EndsText(step.Token, chat: false);
        CompletionScores? scores = step.Scores is null ? null : stream ? new CompletionScores() : _scores[i] ??= new CompletionScores();
        if (told)
        {
            Note(scores!, step, i);
        }

        if (!stream)
        {
            _texts[i].Append(step.Text);
            _finish[i] = step.Finish;
        }
        else if (step.Text.Length > 0 || told || step.Finish is not null)
        {
            yield return new Envelope(_head, new Choice(i, step.Text, scores, Words.Of(step.Finish)));
        }
    }

    public object Last(Usage usage) => new Envelope(_head) { Usage = usage };

    public object Whole(Usage usage) =>
        new Envelope(_head, [.. _texts.Select((text, i) => new Choice(i, text.ToString(), _scores[i], Words.Of(_finish[i])))]) { Usage = usage };

    private void Note(CompletionScores scores, GenerationStep step, int choice)
    {
        string text = model.Describe(step.Token).Text;
        scores.Tokens.Add(text);
        scores.TokenLogprobs.Add(Words.Of(step.Scores!.LogProbability));
        scores.TextOffset.Add(_offsets[choice]);
        _offsets[choice] += text.Length;
        Dictionary<string, double> top = [];
        foreach ((int token, double log) in step.Scores.Top)
        {
            // Pieces of characters may look alike; the likelier one stays.
            top.TryAdd(model.Describe(token).Text, Words.Of(log));
        }

        scores.TopLogprobs.Add(top);
    }

    private sealed record Choice(int Index, string Text, CompletionScores? Logprobs, string? FinishReason);

    private sealed record CompletionScores
    {
        public List<string> Tokens { get; } = [];

        public List<double> TokenLogprobs { get; } = [];

        public List<Dictionary<string, double>> TopLogprobs { get; } = [];

        public List<int> TextOffset { get; } = [];
    }
}
