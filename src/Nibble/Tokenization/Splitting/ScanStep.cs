namespace Nibble.Tokenization;

/// <summary>Finds the end of a piece by hand-written rules. A struct, so that the loop around it is compiled for it.</summary>
internal interface IScanner
{
    /// <summary>The end of the piece that begins at <paramref name="at"/>; always further than that.</summary>
    int End(ReadOnlySpan<char> text, int at);
}

/// <summary>Cuts a text by a scanner that covers all of it.</summary>
internal sealed class ScanStep<TScanner>(TScanner scanner) : PieceStep
    where TScanner : struct, IScanner
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        TScanner local = scanner;
        PieceStep next = Next;
        int at = 0;
        while (at < text.Length)
        {
            int end = local.End(text, at);
            next.Accept(text[at..end], atStart && at == 0, state);
            at = end;
        }
    }
}
