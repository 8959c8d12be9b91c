namespace Nibble.Evaluation.Protocols;

/// <summary>Each line that is not blank on its own, all but its first token scored; a line longer than a window slides (the LLaMA-2 study).</summary>
/// <param name="Size">Tokens of a window.</param>
/// <param name="Stride">Tokens from one window's start to the next one's.</param>
public sealed record LinesProtocol(int Size, int Stride) : Protocol
{
    /// <inheritdoc/>
    public override string Name => "lines";

    /// <inheritdoc/>
    public override int Window => Size;

    /// <inheritdoc/>
    public override TextUnit Unit => TextUnit.Line;

    /// <inheritdoc/>
    protected override string Parameters => $"lines-{Size}-{Stride}";

    /// <inheritdoc/>
    public override IEnumerable<ScoringWindow> Windows(int length) => WindowProtocol.Slide(length, Size, Stride);
}
