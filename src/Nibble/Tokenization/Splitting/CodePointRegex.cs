using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>
/// A pattern written for characters, run by .NET's engine, which sees UTF-16 units: there a letter beyond U+FFFF would be two
/// surrogates and no letter. So each such character is replaced by a rare one of its own category before matching.
/// </summary>
internal sealed class CodePointRegex
{
    // One match that takes longer than this comes from a pattern that backtracks without end.
    private static readonly TimeSpan MatchTimeout = TimeSpan.FromSeconds(5);
    private static readonly char[] StandIns = MakeStandIns();

    private readonly Regex _regex;
    private readonly string _source;

    public CodePointRegex(string pattern, string source)
    {
        _source = source;
        string translated = RegexSyntax.Translate(pattern, source);
        try
        {
            // Multiline: in the reference's syntax (Oniguruma, Ruby) ^ and $ are always those of a line.
            _regex = new Regex(translated, RegexOptions.CultureInvariant | RegexOptions.Multiline | RegexOptions.Compiled, MatchTimeout);
        }
        catch (ArgumentException error)
        {
            Throw.BadInput($"{source}: the pattern '{Vocabulary.Shorten(pattern)}' is not understood", error.Message, "only the syntax that .NET and Oniguruma share is read", error);
        }
    }

    /// <summary>All matches, as stretches of the text; empty ones are left out.</summary>
    public List<(int Start, int End)> Matches(ReadOnlySpan<char> text)
    {
        int first = text.IndexOfAnyInRange('\uD800', '\uDFFF');
        int[]? places = null;
        char[] mapped = first < 0 ? [] : Map(text, out places);
        List<(int Start, int End)> found = [];
        try
        {
            foreach (ValueMatch match in _regex.EnumerateMatches(first < 0 ? text : mapped))
            {
                if (match.Length > 0)
                {
                    int end = match.Index + match.Length;
                    found.Add(places == null ? (match.Index, end) : (places[match.Index], places[end]));
                }
            }
        }
        catch (RegexMatchTimeoutException error)
        {
            Throw.BadInput($"{_source}: a split pattern takes too long", $"'{Vocabulary.Shorten(_regex.ToString())}' backtracks without end", "the tokenizer cannot be used", error);
        }

        return found;
    }

    /// <summary>Replaces characters beyond U+FFFF and notes where each unit of the result came from.</summary>
    private static char[] Map(ReadOnlySpan<char> text, out int[] places)
    {
        char[] mapped = new char[text.Length];
        places = new int[text.Length + 1];
        int count = 0;
        for (int at = 0; at < text.Length;)
        {
            places[count] = at;
            bool pair = at + 1 < text.Length && char.IsSurrogatePair(text[at], text[at + 1]);
            mapped[count++] = pair ? StandIns[(int)Rune.GetUnicodeCategory(new Rune(text[at], text[at + 1]))] : text[at];
            at += pair ? 2 : 1;
        }

        places[count] = text.Length;
        return mapped[..count];
    }

    /// <summary>For each category the highest character below U+FFFF; those are not in any range that patterns name.</summary>
    private static char[] MakeStandIns()
    {
        char[] standIns = new char[(int)UnicodeCategory.OtherNotAssigned + 1];
        Array.Fill(standIns, '\uFFFF');
        for (char unit = '\0'; unit < '\uFFFF'; unit++)
        {
            standIns[(int)CharUnicodeInfo.GetUnicodeCategory(unit)] = unit;
        }

        return standIns;
    }
}
