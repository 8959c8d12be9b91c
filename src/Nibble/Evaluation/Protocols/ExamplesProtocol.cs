namespace Nibble.Evaluation.Protocols;

/// <summary>Each document on its own, cut after a number of tokens, all but its first token scored (the CodeSearchNet study).</summary>
/// <param name="Size">Tokens that are kept of a document.</param>
public sealed record ExamplesProtocol(int Size) : Protocol
{
    /// <inheritdoc/>
    public override string Name => "examples";

    /// <inheritdoc/>
    public override int Window => Size;

    /// <inheritdoc/>
    public override TextUnit Unit => TextUnit.Document;

    /// <inheritdoc/>
    protected override string Parameters => $"examples-{Size}";

    /// <inheritdoc/>
    public override IEnumerable<ScoringWindow> Windows(int length)
    {
        int kept = Math.Min(length, Size);
        return kept < 2 ? [] : [new ScoringWindow(0, kept, 1)];
    }
}
