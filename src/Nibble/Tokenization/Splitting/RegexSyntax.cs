using System.Text;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>
/// Oniguruma's syntax → .NET's, for what tokenizers use. Possessive quantifiers become atomic groups; what would silently mean
/// something else in .NET is refused.
/// </summary>
internal static class RegexSyntax
{
    /// <summary>Rewrites a pattern.</summary>
    public static string Translate(string pattern, string source)
    {
        StringBuilder result = new(pattern.Length + 16);
        Stack<int> groups = new();
        int atom = 0;
        for (int at = 0; at < pattern.Length;)
        {
            char unit = pattern[at];
            if (char.IsSurrogate(unit))
            {
                Refuse(pattern, source, "characters beyond U+FFFF in a pattern are not supported");
            }

            if (unit is '*' or '+' or '?' && at + 1 < pattern.Length && pattern[at + 1] == '+')
            {
                result.Insert(atom, "(?>").Append(unit).Append(')');
                at += 2;
                continue;
            }

            int end = TokenEnd(pattern, at, source);
            if (unit == '(')
            {
                groups.Push(result.Length);
            }

            bool quantifier = unit is '*' or '+' or '?' or '{';
            atom = unit == ')' ? groups.TryPop(out int open) ? open : result.Length : quantifier ? atom : result.Length;
            result.Append(pattern, at, end - at);
            at = end;
        }

        return result.ToString();
    }

    /// <summary>The end of an escape, a class or a single character.</summary>
    private static int TokenEnd(string pattern, int at, string source)
    {
        switch (pattern[at])
        {
            case '\\':
                return EscapeEnd(pattern, at);
            case '[':
                return ClassEnd(pattern, at, source);
            case '(' when at + 1 < pattern.Length && pattern[at + 1] == '?':
                return at + 2;
            default:
                return at + 1;
        }
    }

    private static int EscapeEnd(string pattern, int at)
    {
        bool property = at + 2 < pattern.Length && pattern[at + 1] is 'p' or 'P' && pattern[at + 2] == '{';
        int close = property ? pattern.IndexOf('}', at) : -1;
        return close >= 0 ? close + 1 : Math.Min(at + 2, pattern.Length);
    }

    private static int ClassEnd(string pattern, int at, string source)
    {
        int start = at + 1;
        start += start < pattern.Length && pattern[start] == '^' ? 1 : 0;
        for (int i = start; i < pattern.Length; i++)
        {
            switch (pattern[i])
            {
                case '\\':
                    i++;
                    break;
                case '[':
                    Refuse(pattern, source, "classes inside of classes are not supported");
                    break;
                case '&' when i + 1 < pattern.Length && pattern[i + 1] == '&':
                    Refuse(pattern, source, "intersections of classes (&&) are not supported");
                    break;
                case ']' when i > start:
                    return i + 1;
            }
        }

        return pattern.Length;
    }

    private static void Refuse(string pattern, string source, string why) =>
        Throw.BadInput($"{source}: the pattern '{Vocabulary.Shorten(pattern)}' is not understood", why, "the tokenizer cannot be used");
}
