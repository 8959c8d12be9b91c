using System.Text;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

/// <summary>The hand-written scanners cut exactly where the regular expressions do.</summary>
public class ScannerTests
{
    // U+017F is an s when case is folded, in the references but not in .NET; the pattern for .NET has to say so.
    private static readonly string Folded = KnownPatterns.Llama3.Replace("'s|", "'[s\u017F]|", StringComparison.Ordinal);

    private static readonly string[] Pieces =
    [
        "'s", "'S", "'t", "'re", "'rE", "'ve", "'m", "'ll", "'LL", "'d", "'x", "'", "''", "'\u017F", "a", "bc", "Ünï", "\u0301", "中", "ℵ", "ǅ", "ʰ",
        "1", "12", "1234567", "²", "Ⅷ", "٣", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u00A0", "\u2028", "\u3000", "\u0085", "\u200B", "!", "?!", "_",
        "$", "+", "…", "\uFEFF", "𝐀", "𠀀", "𝟗", "🚀", "👩\u200D👧", "\uD83D", "\uDE80", "\uFFFF", "\0",
    ];

    public static TheoryData<string, string> Patterns() => new()
    {
        { KnownPatterns.Gpt2, KnownPatterns.Gpt2 },
        { KnownPatterns.Llama3, Folded },
        { KnownPatterns.Qwen2, Folded.Replace("{1,3}", string.Empty, StringComparison.Ordinal) },
    };

    [Theory]
    [MemberData(nameof(Patterns))]
    public void RandomTextIsCutAlike(string known, string pattern)
    {
        Random random = new(11);
        CodePointRegex regex = new(pattern, "test");
        for (int round = 0; round < 5_000; round++)
        {
            string text = string.Concat(random.GetItems(Pieces, random.Next(12)));
            Assert.Equal(regex.Matches(text).Select(match => text[match.Start..match.End]), Cut(known, text));
        }
    }

    [Theory]
    [MemberData(nameof(Patterns))]
    public void EveryPairOfCharactersIsCutAlike(string known, string pattern)
    {
        CodePointRegex regex = new(pattern, "test");
        StringBuilder all = new();
        for (int code = 0; code < 0x20000; code += code < 0x3000 ? 1 : 23)
        {
            if (Rune.IsValid(code))
            {
                all.Append('x').Append(new Rune(code)).Append(new Rune(code)).Append(' ').Append(new Rune(code)).Append("1");
            }
        }

        string text = all.ToString();
        Assert.Equal(regex.Matches(text).Select(match => text[match.Start..match.End]), Cut(known, text));
    }

    // Its cache takes two megabytes, which thousands of texts need not have each.
    private readonly EncodeState _state = new();

    private List<string> Cut(string known, string text)
    {
        Collector collector = new();
        PieceStep step = KnownPatterns.Find(known)!;
        step.Next = collector;
        step.Accept(text, true, _state);
        return collector.Pieces;
    }

    private sealed class Collector : PieceStep
    {
        public List<string> Pieces { get; } = [];

        public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state) => Pieces.Add(text.ToString());
    }
}
