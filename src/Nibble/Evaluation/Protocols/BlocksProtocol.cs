namespace Nibble.Evaluation.Protocols;

/// <summary>Blocks that do not overlap, the rest dropped (papers of GPTQ, AWQ, HQQ): all but the first token of each block is scored.</summary>
/// <param name="Size">Tokens of a block.</param>
public sealed record BlocksProtocol(int Size) : Protocol
{
    /// <inheritdoc/>
    public override string Name => "blocks";

    /// <inheritdoc/>
    public override int Window => Size;

    /// <inheritdoc/>
    protected override string Parameters => $"blocks-{Size}";

    /// <inheritdoc/>
    public override IEnumerable<ScoringWindow> Windows(int length) =>
        Enumerable.Range(0, length / Size).Select(block => new ScoringWindow(block * Size, Size, 1));
}
