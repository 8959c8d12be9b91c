using System.Buffers;
using System.Globalization;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>Finds added tokens: the earliest, and among those at one place the longest.</summary>
internal sealed class AddedTokenMatcher
{
    private readonly SearchValues<string> _contents;
    private readonly Dictionary<char, (string Content, AddedToken Token)[]> _byFirst;

    private AddedTokenMatcher((string Content, AddedToken Token)[] tokens)
    {
        _contents = SearchValues.Create(tokens.Select(token => token.Content).ToArray(), StringComparison.Ordinal);
        _byFirst = tokens.GroupBy(token => token.Content[0])
            .ToDictionary(group => group.Key, group => group.OrderByDescending(token => token.Content.Length).ToArray());
    }

    /// <summary>A matcher for tokens under the texts that stand for them, or null if there are none.</summary>
    public static AddedTokenMatcher? Create(IEnumerable<(string Content, AddedToken Token)> tokens)
    {
        (string Content, AddedToken Token)[] found = tokens.Where(token => token.Content.Length > 0).DistinctBy(token => token.Content).ToArray();
        return found.Length > 0 ? new AddedTokenMatcher(found) : null;
    }

    /// <summary>The next token at or after <paramref name="from"/>, which moves behind its content.</summary>
    /// <param name="text">The text.</param>
    /// <param name="from">Where to look; white space that an earlier token took is looked at again, as the reference does.</param>
    /// <param name="floor">The stretch that the token takes begins at or after this place.</param>
    /// <param name="start">Where that stretch begins.</param>
    /// <param name="end">Where that stretch ends.</param>
    public AddedToken? Next(ReadOnlySpan<char> text, ref int from, int floor, out int start, out int end)
    {
        while (from < text.Length)
        {
            int found = text[from..].IndexOfAny(_contents);
            if (found < 0)
            {
                break;
            }

            start = from + found;
            AddedToken token = Longest(text[start..], out int length);
            end = start + length;
            from = end;
            if (!token.SingleWord || IsApart(text, start, end))
            {
                Widen(text, token, floor, ref start, ref end);
                return token;
            }
        }

        (start, end) = (text.Length, text.Length);
        return null;
    }

    /// <summary>True for what <c>\w</c> means: letters, marks, numbers, connectors and joiners.</summary>
    public static bool IsWord(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.NonSpacingMark
            or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark or UnicodeCategory.DecimalDigitNumber
            or UnicodeCategory.LetterNumber or UnicodeCategory.ConnectorPunctuation => true,
        _ => rune.Value is 0x200C or 0x200D or (>= 0x24B6 and <= 0x24E9),
    };

    private AddedToken Longest(ReadOnlySpan<char> text, out int length)
    {
        foreach ((string content, AddedToken token) in _byFirst[text[0]])
        {
            if (text.StartsWith(content, StringComparison.Ordinal))
            {
                length = content.Length;
                return token;
            }
        }

        throw new InvalidOperationException("the search found a token that is not in the list");
    }

    private static bool IsApart(ReadOnlySpan<char> text, int start, int end)
    {
        bool before = Rune.DecodeLastFromUtf16(text[..start], out Rune left, out _) == OperationStatus.Done && IsWord(left);
        bool after = Rune.DecodeFromUtf16(text[end..], out Rune right, out _) == OperationStatus.Done && IsWord(right);
        return !before && !after;
    }

    private static void Widen(ReadOnlySpan<char> text, AddedToken token, int floor, ref int start, ref int end)
    {
        if (token.StripLeft)
        {
            start = Math.Max(floor, text[..start].TrimEnd().Length);
        }

        if (token.StripRight)
        {
            end = text.Length - text[end..].TrimStart().Length;
        }
    }
}
