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
public readonly record struct GenerationStep(int Row, int Token, string Text, FinishReason? Finish);

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
