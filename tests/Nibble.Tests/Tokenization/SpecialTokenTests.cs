using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

/// <summary>Which tokens have a role, and what the configs beside a tokenizer change.</summary>
public class SpecialTokenTests
{
    [Fact]
    public void TheTemplateTellsWhetherBosIsAdded()
    {
        Assert.Equal((1, 2, true), (TinyTokenizers.Characters.BosId, TinyTokenizers.Characters.EosId, TinyTokenizers.Characters.AddsBos));
        Assert.Equal(1, TinyTokenizers.Characters.Encode("a")[0]);
        Assert.NotEqual(1, TinyTokenizers.Characters.Encode("a", addSpecialTokens: false)[0]);
        Assert.Equal((null, 0, false), (TinyTokenizers.Bytes.BosId, TinyTokenizers.Bytes.EosId, TinyTokenizers.Bytes.AddsBos));
    }

    [Theory]
    [InlineData("""{"add_bos_token": false, "bos_token": "<s>"}""", new int[0], new int[0])]
    [InlineData("""{"add_bos_token": true, "bos_token": {"content": "<s>", "lstrip": false}}""", new[] { 1 }, new int[0])]
    [InlineData("""{"add_eos_token": true, "eos_token": "</s>"}""", new[] { 1 }, new[] { 2 })]
    [InlineData("""{"bos_token": null}""", new[] { 1 }, new int[0])]
    public void AConfigMayAddAndTakeAway(string config, int[] before, int[] after)
    {
        Tokenizer tokenizer = With(("tokenizer_config.json", config));
        int[] text = tokenizer.Encode("the", addSpecialTokens: false);
        Assert.Equal([.. before, .. text, .. after], tokenizer.Encode("the"));
        Assert.Equal(before.Length > 0, tokenizer.AddsBos);
    }

    [Fact]
    public void RolesComeFromTheFirstConfigThatNamesThem()
    {
        Tokenizer tokenizer = With(
            ("tokenizer_config.json", """{"eos_token": "</s>"}"""),
            ("special_tokens_map.json", """{"eos_token": "<s>", "pad_token": {"content": "<unk>"}}"""),
            ("generation_config.json", """{"eos_token_id": [2, 5], "bos_token_id": 1}"""),
            ("config.json", """{"eos_token_id": 7, "pad_token_id": -1}"""));
        Assert.Equal([2, 5], tokenizer.EosIds);
        Assert.Equal((1, 2, 0), (tokenizer.BosId, tokenizer.EosId, tokenizer.PadId));
    }

    [Fact]
    public void APaddingTokenThatTheVocabularyDoesNotHaveIsNone() =>
        Assert.Null(With(("tokenizer_config.json", """{"pad_token": "[PAD]"}""")).PadId);

    [Fact]
    public void SpecialTokensInATextAreFoundAndCanBeLeftOut()
    {
        int[] ids = TinyTokenizers.Bytes.Encode("a<|endoftext|>b");
        Assert.Equal([0], ids.Where(TinyTokenizers.Bytes.IsSpecial));
        Assert.Equal("a<|endoftext|>b", TinyTokenizers.Bytes.Decode(ids));
        Assert.Equal("ab", TinyTokenizers.Bytes.Decode(ids, skipSpecialTokens: true));
        Assert.Equal((0, "<|endoftext|>"), (TinyTokenizers.Bytes.TokenId("<|endoftext|>"), TinyTokenizers.Bytes.TokenText(0)));
    }

    [Fact]
    public void ASentencePieceModelKeepsItsUserDefinedPieces()
    {
        byte[] model = [.. SentencePieceFiles.Model(), .. SentencePieceFiles.Piece("<code>", 0, 4), .. SentencePieceFiles.Piece("▁▁▁", 0, 4)];
        Tokenizer tokenizer = SentencePieceFiles.Load(model);
        int code = tokenizer.TokenId("<code>")!.Value;
        Assert.Equal([1, tokenizer.TokenId("▁the")!.Value, code, tokenizer.TokenId("an")!.Value], tokenizer.Encode("the<code>an"));
        Assert.Contains(code + 1, tokenizer.Encode("a    b"));
        Assert.False(tokenizer.IsSpecial(code));
        Assert.Equal("a    b<code>", tokenizer.Decode(tokenizer.Encode("a    b<code>"), skipSpecialTokens: true));
    }

    [Fact]
    public void SentencePieceMergesByScoreAndThenFromTheLeft()
    {
        // "▁t" has the best score of all, so "to" (worse) cannot be made; of two equal "▁▁" the left one is merged.
        Tokenizer tokenizer = SentencePieceFiles.Small();
        Assert.Equal(["▁the", "▁and", "▁t", "o"], Texts(tokenizer, "the and to", 4));
        Assert.Equal(["▁▁", "▁an"], Texts(tokenizer, "  an", 2));
        Assert.Equal(["▁▁", "▁"], Texts(tokenizer, "  中", 2));
    }

    [Fact]
    public void ExtraSpacesGoWhereTheModelSaysSo()
    {
        Tokenizer tokenizer = SentencePieceFiles.Load(SentencePieceFiles.Model(normalizer: []));
        Assert.Equal(tokenizer.Encode("the and"), tokenizer.Encode("  the   and "));
        Assert.Equal("the and", tokenizer.Decode(tokenizer.Encode("  the   and "), skipSpecialTokens: true));
        Assert.Equal([1], tokenizer.Encode("   "));
    }

    [Fact]
    public void TheFingerprintFollowsWhatDecidesTheTokens()
    {
        string own = TinyTokenizers.Bytes.Fingerprint;
        Assert.Matches("^[0-9a-f]{64}$", own);
        Assert.Equal(own, TinyTokenizers.Load(TinyTokenizers.Document("bytes")).Fingerprint);
        Assert.NotEqual(own, TinyTokenizers.Characters.Fingerprint);

        var document = TinyTokenizers.Document("bytes");
        document["model"]!["merges"]!.AsArray().RemoveAt(42);
        Assert.NotEqual(own, TinyTokenizers.Load(document).Fingerprint);

        document = TinyTokenizers.Document("bytes");
        document["added_tokens"]![0]!["lstrip"] = true;
        Assert.NotEqual(own, TinyTokenizers.Load(document).Fingerprint);
    }

    private static IEnumerable<string?> Texts(Tokenizer tokenizer, string text, int count) =>
        tokenizer.Encode(text, addSpecialTokens: false).Select(tokenizer.TokenText).Take(count);

    private static Tokenizer With(params (string File, string Content)[] configs)
    {
        using TempFolder folder = new();
        File.Copy(Path.Combine(TinyTokenizers.Folder, "characters.json"), folder["tokenizer.json"]);
        foreach ((string file, string content) in configs)
        {
            File.WriteAllText(folder[file], content);
        }

        return TokenizerLoader.FromFolder(folder.Path);
    }
}
