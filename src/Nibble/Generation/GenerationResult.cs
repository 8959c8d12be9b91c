namespace Nibble.Generation;

/// <summary>Why a row ended.</summary>
public enum FinishReason
{
    /// <summary>A token that ends a text, or a stop text.</summary>
    Stop,

    /// <summary>The number of tokens asked for, or the model's context.</summary>
    Length,
}

/// <summary>One new token of one row.</summary>
/// <param name="Row">Row of the batch.</param>
/// <param name="Token">The token.</param>
/// <param name="Text">The text that is certain now: often a word, sometimes nothing (inside of a character, or of what may become a stop text).</param>
/// <param name="Finish">Why the row ends here, or null if it goes on.</param>
public readonly record struct GenerationStep(int Row, int Token, string Text, FinishReason? Finish)
{
    /// <summary>How likely the token and others were, where <see cref="GenerationOptions.TopLogProbabilities"/> asks for it.</summary>
    public TokenScores? Scores { get; init; }
}

/// <summary>Log probabilities at one step, as the model gives them.</summary>
/// <param name="LogProbability">Of the token that was taken.</param>
/// <param name="Top">The most likely tokens, the likeliest first; among equals the lowest id.</param>
public sealed record TokenScores(double LogProbability, IReadOnlyList<(int Token, double LogProbability)> Top)
{
    /// <summary>log softmax of some entries of logits.</summary>
    internal static TokenScores Of(ReadOnlySpan<float> logits, int token, int count)
    {
        // A queue whose first is the one to go: the least likely, among equals the highest id.
        PriorityQueue<int, (float Logit, int NegativeId)> top = new(count + 1);
        float largest = float.NegativeInfinity;
        for (int id = 0; id < logits.Length; id++)
        {
            largest = MathF.Max(largest, logits[id]);
            if (top.Count < count)
            {
                top.Enqueue(id, (logits[id], -id));
            }
            else if (count > 0 && logits[id] > logits[top.Peek()])
            {
                top.EnqueueDequeue(id, (logits[id], -id));
            }
        }

        double sum = 0;
        foreach (float logit in logits)
        {
            sum += Math.Exp((double)logit - largest);
        }

        double log = largest + Math.Log(sum);
        List<(int, double)> best = [];
        while (top.TryDequeue(out int id, out _))
        {
            best.Add((id, logits[id] - log));
        }

        best.Reverse();
        return new TokenScores(logits[token] - log, best);
    }
}

/// <summary>One finished row.</summary>
/// <param name="Text">The new text, without the prompt.</param>
/// <param name="Tokens">The new tokens, the ending one included.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="Finish">Why it ended.</param>
public sealed record GeneratedText(string Text, IReadOnlyList<int> Tokens, int PromptTokens, FinishReason Finish);

/// <summary>How long a generation took.</summary>
/// <param name="TimeToFirstToken">From the prompt's tokens to the first new one.</param>
/// <param name="PrefillTokensPerSecond">Tokens of all prompts over that time.</param>
/// <param name="DecodeTokensPerSecond">New tokens after the first of each row, over the time they took; NaN without any.</param>
public sealed record GenerationTimings(TimeSpan TimeToFirstToken, double PrefillTokensPerSecond, double DecodeTokensPerSecond);
