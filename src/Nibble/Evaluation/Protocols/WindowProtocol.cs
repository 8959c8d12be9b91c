namespace Nibble.Evaluation.Protocols;

/// <summary>
/// Overlapping windows (transformers' documentation): every token but the first is scored exactly once, with at least
/// size − stride tokens before it where they exist.
/// </summary>
/// <param name="Size">Tokens of a window.</param>
/// <param name="Stride">Tokens from one window's start to the next one's.</param>
public sealed record WindowProtocol(int Size, int Stride) : Protocol
{
    /// <inheritdoc/>
    public override string Name => "window";

    /// <inheritdoc/>
    public override int Window => Size;

    /// <inheritdoc/>
    protected override string Parameters => $"window-{Size}-{Stride}";

    /// <inheritdoc/>
    public override IEnumerable<ScoringWindow> Windows(int length) => Slide(length, Size, Stride);

    /// <summary>Windows from 0, stride, 2·stride …; each scores what the one before did not reach.</summary>
    internal static IEnumerable<ScoringWindow> Slide(int length, int size, int stride)
    {
        int scored = 1;
        for (int start = 0; scored < length; start += stride)
        {
            int end = Math.Min(start + size, length);
            // Windows that do not overlap (stride = size) leave their first token without context: it is not scored, as in transformers.
            ScoringWindow window = new(start, end - start, Math.Max(1, scored - start));
            if (window.Scored > 0)
            {
                yield return window;
            }

            scored = end;
        }
    }
}
