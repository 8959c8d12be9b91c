using System.Globalization;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>Cuts at characters of a kind: digits, punctuation, white space.</summary>
internal sealed class RuneSplitStep(Func<Rune, bool> matches, SplitBehavior behavior) : SplitStep(behavior, invert: false)
{
    /// <summary>Any character of the categories N*.</summary>
    public static bool IsNumber(Rune rune) => CharClasses.Of(Rune.GetUnicodeCategory(rune)) == CharClass.Number;

    /// <summary>ASCII signs and the categories P*.</summary>
    public static bool IsPunctuation(Rune rune)
    {
        if (rune.IsAscii)
        {
            return char.IsPunctuation((char)rune.Value) || char.IsSymbol((char)rune.Value);
        }

        return Rune.GetUnicodeCategory(rune) is UnicodeCategory.ConnectorPunctuation or UnicodeCategory.DashPunctuation
            or UnicodeCategory.OpenPunctuation or UnicodeCategory.ClosePunctuation or UnicodeCategory.InitialQuotePunctuation
            or UnicodeCategory.FinalQuotePunctuation or UnicodeCategory.OtherPunctuation;
    }

    /// <inheritdoc/>
    protected override List<(int Start, int End)> Matches(ReadOnlySpan<char> text)
    {
        List<(int Start, int End)> found = [];
        int at = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            int end = at + rune.Utf16SequenceLength;
            if (matches(rune))
            {
                found.Add((at, end));
            }

            at = end;
        }

        return found;
    }
}

/// <summary>The <c>Whitespace</c> step: runs of <c>\w+</c> and of <c>[^\w\s]+</c>; the white space between them is dropped.</summary>
internal sealed class WordsStep : PieceStep
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        int at = 0;
        while (at < text.Length)
        {
            int kind = Kind(text, at, out int units);
            int end = at + units;
            while (end < text.Length && Kind(text, end, out units) == kind)
            {
                end += units;
            }

            if (kind != 0)
            {
                Next.Accept(text[at..end], atStart && at == 0, state);
            }

            at = end;
        }
    }

    private static int Kind(ReadOnlySpan<char> text, int at, out int units)
    {
        _ = Rune.DecodeFromUtf16(text[at..], out Rune rune, out units);
        return Rune.IsWhiteSpace(rune) ? 0 : AddedTokenMatcher.IsWord(rune) ? 1 : 2;
    }
}
