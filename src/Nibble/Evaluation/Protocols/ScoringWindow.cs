namespace Nibble.Evaluation.Protocols;

/// <summary>
/// One forward pass of a perplexity protocol over a sequence of tokens: tokens <c>Start … Start + Length − 1</c> go in, and those
/// from <c>FirstTarget</c> (counted inside the window, at least 1) to the end are scored.
/// </summary>
/// <param name="Start">First token of the window.</param>
/// <param name="Length">Tokens of the window.</param>
/// <param name="FirstTarget">First scored token, counted from the start of the window.</param>
public readonly record struct ScoringWindow(int Start, int Length, int FirstTarget)
{
    /// <summary>Scored tokens.</summary>
    public int Scored => Length - FirstTarget;
}
