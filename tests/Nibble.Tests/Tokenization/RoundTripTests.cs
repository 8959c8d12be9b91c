using System.Diagnostics;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using FsCheck.Xunit;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

public class RoundTripTests
{
    private static readonly Tokenizer Embedded = TokenizerLoader.FromFolder(Path.Combine(TestData.Assets, "nibble-llama-4m"));

    /// <summary>Any text of valid characters, all planes, control characters too.</summary>
    public static Arbitrary<string> AnyText()
    {
        Gen<Rune> rune = Gen.OneOf(
                Gen.Choose(0, 0x7F), Gen.Choose(0, 0x7FF), Gen.Choose(0, 0xD7FF), Gen.Choose(0xE000, 0x10FFFF), Gen.Elements(' ', '\n', '▁', '\'').Select(unit => (int)unit))
            .Select(code => new Rune(code));
        return Arb.From(rune.ListOf().Select(runes => string.Concat(runes)));
    }

    [Property(MaxTest = 200, Arbitrary = [typeof(RoundTripTests)])]
    public bool BytesComeBack(string text) => ComesBack(TinyTokenizers.Bytes, text) && ComesBack(Embedded, text);

    [Property(MaxTest = 200, Arbitrary = [typeof(RoundTripTests)])]
    public bool CharactersComeBack(string text)
    {
        // The mark is how this kind writes a space, so a mark in the text is one afterwards.
        text = text.Replace('▁', '_');
        return ComesBack(TinyTokenizers.Characters, text) && ComesBack(SentencePieceFiles.Small(), text);
    }

    [Property(MaxTest = 150, Arbitrary = [typeof(RoundTripTests)])]
    public bool StreamsAreTheSameText(string text) => Streams(TinyTokenizers.Bytes, text) && Streams(TinyTokenizers.Characters, text);

    [Property(MaxTest = 150, Arbitrary = [typeof(RoundTripTests)])]
    public bool AWarmCacheChangesNothing(string text)
    {
        int[] warm = Embedded.Encode(text + text);
        ((PipelineTokenizer)Embedded).Forget();
        return warm.SequenceEqual(Embedded.Encode(text + text));
    }

    [Fact]
    public void AStreamHoldsBackUnfinishedCharacters()
    {
        int[] ids = TinyTokenizers.Bytes.Encode("🚀");
        Assert.Equal(4, ids.Length);
        TokenStreamDecoder stream = TinyTokenizers.Bytes.Stream();
        Assert.Equal(["", "", "", "🚀"], ids.Select(stream.Add));
        Assert.Equal("", stream.Flush());

        stream = TinyTokenizers.Bytes.Stream();
        Assert.Equal(["", ""], ids[..2].Select(stream.Add));
        Assert.Equal("\uFFFD", stream.Flush());
    }

    [Fact]
    public void ALoneSurrogateCountsAsTheReplacementCharacter()
    {
        Assert.Equal("a\uFFFDb", TinyTokenizers.Bytes.Decode(TinyTokenizers.Bytes.Encode("a\uD83Db")));
        Assert.Equal("a\uFFFDb", TinyTokenizers.Characters.Decode(TinyTokenizers.Characters.Encode("a\uDE80b"), skipSpecialTokens: true));
    }

    [Fact]
    public void AnIdWithoutATokenHasNoBytes()
    {
        Assert.Equal("", TinyTokenizers.Bytes.Decode([4711]));
        Assert.Null(TinyTokenizers.Bytes.TokenText(4711));
        Assert.Throws<ArgumentOutOfRangeException>(() => TinyTokenizers.Bytes.Decode([-1]));
    }

    [Theory]
    [InlineData("a")]
    [InlineData(" ")]
    [InlineData("ab")]
    [InlineData("▁")]
    [InlineData("🚀")]
    public void AMegabyteWithoutABreakIsFast(string unit)
    {
        string text = string.Concat(Enumerable.Repeat(unit, 1_000_000 / unit.Length));
        foreach (Tokenizer tokenizer in new[] { TinyTokenizers.Bytes, TinyTokenizers.Characters, Embedded })
        {
            Stopwatch watch = Stopwatch.StartNew();
            int[] ids = tokenizer.Encode(text, addSpecialTokens: false);
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(60), $"{watch.Elapsed}: quadratic merging would take hours, linear-logarithmic a second");
            Assert.Equal(text.Replace('▁', tokenizer == TinyTokenizers.Characters ? ' ' : '▁'), tokenizer.Decode(ids));
        }
    }

    [Fact]
    public void LongWordsMergeAsShortOnesDo()
    {
        // Random letters beyond the length where the heap takes over, against merging by definition.
        Random random = new(3);
        BpeRules rules = TinyRules();
        for (int round = 0; round < 200; round++)
        {
            int[] ids = Enumerable.Range(0, random.Next(2, 200)).Select(_ => rules.Vocabulary.ByteIds()[random.Next(3) switch { 0 => 'e', 1 => 's', _ => 'l' }]).ToArray();
            List<int> expected = [.. ids];
            while (MergeOnce(expected, rules.Merges))
            {
            }

            Assert.Equal(expected, ids[..new BpeMerger(rules.Merges).Merge(ids)]);
        }
    }

    [Fact]
    public void ThreadsMayShareATokenizer()
    {
        string text = File.ReadAllText(Path.Combine(TestData.Assets, "text", "test.txt"))[..60_000];
        int[] expected = Embedded.Encode(text);
        int[][] all = new int[8][];
        Parallel.For(0, all.Length, i => all[i] = Embedded.Encode(text));
        Assert.All(all, ids => Assert.Equal(expected, ids));
    }

    private static BpeRules TinyRules() =>
        JsonBpe.Read(Nibble.Formats.JsonConfig.Open(Path.Combine(TinyTokenizers.Folder, "bytes.json")), Nibble.IO.Limits.Default, bytes: true);

    private static bool MergeOnce(List<int> ids, MergeTable merges)
    {
        int best = Enumerable.Range(0, ids.Count - 1).DefaultIfEmpty(-1).MinBy(i => i < 0 ? MergeTable.NoRank : merges.Find(ids[i], ids[i + 1], out _));
        if (best < 0 || merges.Find(ids[best], ids[best + 1], out int merged) == MergeTable.NoRank)
        {
            return false;
        }

        ids[best] = merged;
        ids.RemoveAt(best + 1);
        return true;
    }

    private static bool ComesBack(Tokenizer tokenizer, string text) =>
        tokenizer.Decode(tokenizer.Encode(text), skipSpecialTokens: true) == text
        && tokenizer.DecodeToBytes(tokenizer.Encode(text, addSpecialTokens: false)).AsSpan().SequenceEqual(Encoding.UTF8.GetBytes(text));

    private static bool Streams(Tokenizer tokenizer, string text)
    {
        int[] ids = tokenizer.Encode(text);
        TokenStreamDecoder stream = tokenizer.Stream();
        return string.Concat(ids.Select(stream.Add)) + stream.Flush() == tokenizer.Decode(ids, skipSpecialTokens: true);
    }
}
