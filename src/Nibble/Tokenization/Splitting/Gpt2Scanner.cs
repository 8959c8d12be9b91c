namespace Nibble.Tokenization;

/// <summary>
/// GPT-2's pattern without a regular expression:
/// <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c>.
/// </summary>
internal readonly struct Gpt2Scanner : IScanner
{
    /// <inheritdoc/>
    public int End(ReadOnlySpan<char> text, int at)
    {
        CharClass first = CharClasses.At(text, at, out int units);
        if (first == CharClass.Space)
        {
            if (text[at] != ' ' || at + 1 >= text.Length)
            {
                return Spaces(text, at);
            }

            CharClass second = CharClasses.At(text, at + 1, out int more);
            return second == CharClass.Space ? Spaces(text, at) : CharClasses.RunEnd(text, at + 1 + more, second);
        }

        if (text[at] == '\'')
        {
            int suffix = Suffix(text[(at + 1)..]);
            if (suffix > 0)
            {
                return at + 1 + suffix;
            }
        }

        return CharClasses.RunEnd(text, at + units, first);
    }

    /// <summary>The end of white space: all of it at the end of the text, otherwise all but the last character, which goes with the word.</summary>
    public static int Spaces(ReadOnlySpan<char> text, int at)
    {
        int end = CharClasses.RunEnd(text, at, CharClass.Space);
        return end < text.Length && end - at > 1 ? end - 1 : end;
    }

    private static int Suffix(ReadOnlySpan<char> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        char second = rest.Length > 1 ? rest[1] : '\0';
        return rest[0] switch
        {
            's' or 't' or 'm' or 'd' => 1,
            'r' or 'v' when second == 'e' => 2,
            'l' when second == 'l' => 2,
            _ => 0,
        };
    }
}
