using System.Runtime.CompilerServices;

namespace Nibble.Tokenization;

/// <summary>
/// Where a text over characters may be cut without changing its tokens: between two characters that stand side by side in no
/// token, no merge can ever reach across. The pieces are short and repeat, so that the cache of words knows most of them, though
/// the tokenizer itself cuts nothing (LLaMA-2 has no pre-tokenizer: a line of code would be one word).
/// </summary>
internal sealed class PairBarrier
{
    // ASCII, the mark, and everything else, which is never cut.
    private const int MarkClass = 128;
    private const int OtherClass = 129;
    private const int Classes = 130;

    private readonly bool[] _joined = new bool[Classes * Classes];

    /// <param name="vocabulary">All tokens.</param>
    /// <param name="hasSymbol">False for characters that become the unknown token, which neighbours may share.</param>
    public PairBarrier(Vocabulary vocabulary, Func<char, bool> hasSymbol)
    {
        foreach (string? text in vocabulary.TextSpan)
        {
            for (int i = 1; i < text?.Length; i++)
            {
                _joined[(Class(text[i - 1]) * Classes) + Class(text[i])] = true;
            }
        }

        for (int other = 0; other < Classes; other++)
        {
            char unit = other < MarkClass ? (char)other : BpeRules.Mark;
            if (other == OtherClass || !hasSymbol(unit))
            {
                for (int i = 0; i < Classes; i++)
                {
                    _joined[(other * Classes) + i] = true;
                    _joined[(i * Classes) + other] = true;
                }
            }
        }
    }

    /// <summary>The end of the piece that begins at a place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int End(ReadOnlySpan<char> text, int at)
    {
        bool[] joined = _joined;
        int left = Class(text[at]);
        for (at++; at < text.Length; at++)
        {
            int right = Class(text[at]);
            if (!joined[(left * Classes) + right])
            {
                break;
            }

            left = right;
        }

        return at;
    }

    private static int Class(char unit) => unit < MarkClass ? unit : unit == BpeRules.Mark ? MarkClass : OtherClass;
}
