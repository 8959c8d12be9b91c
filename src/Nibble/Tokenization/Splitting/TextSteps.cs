using System.Text;

namespace Nibble.Tokenization;

/// <summary>ByteLevel's <c>add_prefix_space</c>: a piece that does not begin with a space gets one.</summary>
internal sealed class PrefixSpaceStep : PieceStep
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        if (text.IsEmpty || text[0] == ' ')
        {
            Next.Accept(text, atStart, state);
            return;
        }

        char[] longer = new char[text.Length + 1];
        longer[0] = ' ';
        text.CopyTo(longer.AsSpan(1));
        Next.Accept(longer, atStart, state);
    }
}

/// <summary>Writes a piece's bytes in <see cref="ByteAlphabet"/>, for steps that come after ByteLevel and see its output.</summary>
internal sealed class ByteMapStep : PieceStep
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text)];
        Encoding.UTF8.GetBytes(text, bytes);
        Next.Accept(ByteAlphabet.TextOf(bytes), atStart, state);
    }
}

/// <summary>When <see cref="MetaspaceStep"/> puts a mark in front.</summary>
internal enum PrependScheme
{
    /// <summary>Of every piece.</summary>
    Always,

    /// <summary>Only of the whole text's beginning.</summary>
    First,

    /// <summary>Never.</summary>
    Never,
}

/// <summary>Spaces become marks, and a piece may get one in front; the pieces of a split begin with their mark.</summary>
internal sealed class MetaspaceStep(char mark, PrependScheme scheme, bool split) : PieceStep
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        if (text.IsEmpty)
        {
            return;
        }

        bool marked = text[0] == ' ' || text[0] == mark;
        bool prepend = !marked && (scheme == PrependScheme.Always || (scheme == PrependScheme.First && atStart));
        char[] changed = new char[text.Length + (prepend ? 1 : 0)];
        changed[0] = mark;
        text.Replace(changed.AsSpan(prepend ? 1 : 0), ' ', mark);
        if (split)
        {
            Split(changed, atStart, state);
        }
        else
        {
            Next.Accept(changed, atStart, state);
        }
    }

    private void Split(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        int at = 0;
        while (at < text.Length)
        {
            int next = text[(at + 1)..].IndexOf(mark);
            int end = next < 0 ? text.Length : at + 1 + next;
            Next.Accept(text[at..end], atStart && at == 0, state);
            at = end;
        }
    }
}
