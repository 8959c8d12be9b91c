namespace Nibble.Evaluation.Protocols;

/// <summary>
/// llama.cpp's perplexity: blocks that do not overlap, BOS in place of each block's first token where the tokenizer adds BOS; the
/// predictions at positions size/2 … size − 2 count, so size/2 − 1 tokens of each block are scored.
/// </summary>
/// <param name="Size">Tokens of a block.</param>
public sealed record HalfProtocol(int Size) : Protocol
{
    /// <inheritdoc/>
    public override string Name => "half";

    /// <inheritdoc/>
    public override int Window => Size;

    /// <inheritdoc/>
    public override bool RestartsWithBos => true;

    /// <inheritdoc/>
    protected override string Parameters => $"half-{Size}";

    /// <inheritdoc/>
    public override IEnumerable<ScoringWindow> Windows(int length) =>
        Enumerable.Range(0, length / Size).Select(block => new ScoringWindow(block * Size, Size, (Size / 2) + 1));
}
