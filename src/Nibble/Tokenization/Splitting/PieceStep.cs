namespace Nibble.Tokenization;

/// <summary>
/// A step between text and tokens. Each cuts or changes what it is given and hands every piece on at once, depth first: a
/// text of any length needs no list of its pieces.
/// </summary>
internal abstract class PieceStep
{
    private PieceStep? _next;

    /// <summary>The step that receives the pieces.</summary>
    public PieceStep Next
    {
        get => _next ?? throw new InvalidOperationException($"{GetType().Name} has no next step");
        set => _next = value;
    }

    /// <summary>Handles one piece.</summary>
    /// <param name="text">The piece; never kept.</param>
    /// <param name="atStart">True if the piece begins the whole text.</param>
    /// <param name="state">Buffers and output.</param>
    public abstract void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state);
}
