using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>The four classes of characters that the known split patterns tell apart.</summary>
internal enum CharClass : byte
{
    /// <summary>None of the others: <c>[^\s\p{L}\p{N}]</c>.</summary>
    Other = 0,

    /// <summary><c>\p{L}</c>.</summary>
    Letter = 1,

    /// <summary><c>\p{N}</c>.</summary>
    Number = 2,

    /// <summary><c>\s</c>: Unicode White_Space.</summary>
    Space = 3,
}

/// <summary>Looks up classes: a table for UTF-16 units, the runtime's data for pairs of surrogates.</summary>
internal static class CharClasses
{
    private static readonly CharClass[] Table = MakeTable();

    /// <summary>The class of the character at a place, and how many UTF-16 units it takes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static CharClass At(ReadOnlySpan<char> text, int at, out int units)
    {
        char unit = text[at];
        units = 1;
        return char.IsHighSurrogate(unit) ? OfPair(text, at, out units) : Table[unit];
    }

    /// <summary>The end of the run of one class that begins at a place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int RunEnd(ReadOnlySpan<char> text, int at, CharClass wanted)
    {
        CharClass[] table = Table;
        while (at < text.Length)
        {
            char unit = text[at];
            if (char.IsHighSurrogate(unit))
            {
                if (OfPair(text, at, out int units) != wanted)
                {
                    break;
                }

                at += units;
            }
            else if (table[unit] == wanted)
            {
                at++;
            }
            else
            {
                break;
            }
        }

        return at;
    }

    /// <summary>The class of a category.</summary>
    public static CharClass Of(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => CharClass.Letter,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => CharClass.Number,
        _ => CharClass.Other,
    };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static CharClass OfPair(ReadOnlySpan<char> text, int at, out int units)
    {
        units = 1;
        if (at + 1 >= text.Length || !char.IsLowSurrogate(text[at + 1]))
        {
            return CharClass.Other;
        }

        units = 2;
        return Of(Rune.GetUnicodeCategory(new Rune(text[at], text[at + 1])));
    }

    private static CharClass[] MakeTable()
    {
        CharClass[] table = new CharClass[char.MaxValue + 1];
        for (int unit = 0; unit <= char.MaxValue; unit++)
        {
            table[unit] = char.IsWhiteSpace((char)unit) ? CharClass.Space : Of(CharUnicodeInfo.GetUnicodeCategory((char)unit));
        }

        return table;
    }
}
