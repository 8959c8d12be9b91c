namespace Nibble.Tokenization;

/// <summary>
/// The pattern of LLaMA-3 (digits by three) and Qwen2 (digits one by one) without a regular expression:
/// <c>(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+</c>.
/// </summary>
internal readonly struct Llama3Scanner(int digits) : IScanner
{
    /// <inheritdoc/>
    public int End(ReadOnlySpan<char> text, int at)
    {
        CharClass first = CharClasses.At(text, at, out int units);
        int second = at + units;
        switch (first)
        {
            case CharClass.Letter:
                return CharClasses.RunEnd(text, second, CharClass.Letter);
            case CharClass.Number:
                return Digits(text, second);
            case CharClass.Other:
                int suffix = text[at] == '\'' ? Suffix(text[second..]) : 0;
                return suffix > 0 ? second + suffix
                    : StartsWith(text, second, CharClass.Letter) ? CharClasses.RunEnd(text, second, CharClass.Letter)
                    : Signs(text, second);
            default:
                return Space(text, at);
        }
    }

    private static bool StartsWith(ReadOnlySpan<char> text, int at, CharClass wanted) =>
        at < text.Length && CharClasses.At(text, at, out _) == wanted;

    private int Digits(ReadOnlySpan<char> text, int at)
    {
        for (int count = 1; count < digits && at < text.Length; count++)
        {
            if (CharClasses.At(text, at, out int units) != CharClass.Number)
            {
                break;
            }

            at += units;
        }

        return at;
    }

    private static int Signs(ReadOnlySpan<char> text, int at)
    {
        at = CharClasses.RunEnd(text, at, CharClass.Other);
        while (at < text.Length && text[at] is '\r' or '\n')
        {
            at++;
        }

        return at;
    }

    private static int Space(ReadOnlySpan<char> text, int at)
    {
        if (text[at] is not ('\r' or '\n') && StartsWith(text, at + 1, CharClass.Letter))
        {
            return CharClasses.RunEnd(text, at + 1, CharClass.Letter);
        }

        if (text[at] == ' ' && StartsWith(text, at + 1, CharClass.Other))
        {
            return Signs(text, at + 1);
        }

        int end = CharClasses.RunEnd(text, at, CharClass.Space);
        int lastBreak = text[at..end].LastIndexOfAny('\r', '\n');
        return lastBreak >= 0 ? at + lastBreak + 1 : end < text.Length && end - at > 1 ? end - 1 : end;
    }

    private static int Suffix(ReadOnlySpan<char> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        char second = rest.Length > 1 ? (char)(rest[1] | 0x20) : '\0';
        return (char)(rest[0] | 0x20) switch
        {
            's' or 't' or 'm' or 'd' => 1,
            'r' or 'v' when second == 'e' => 2,
            'l' when second == 'l' => 2,
            _ => rest[0] == LongS ? 1 : 0,
        };
    }

    // Case folding makes U+017F an s, and the reference implementations fold.
    private const char LongS = '\u017F';
}
