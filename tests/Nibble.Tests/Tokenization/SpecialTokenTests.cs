using System.Text.Json.Nodes;
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

    /// <summary>As transformers reads added_tokens.json: special is what a config names, an entry of added_tokens_decoder says so itself.</summary>
    [Theory]
    [InlineData("{}", """{"additional_special_tokens": ["<think>", {"content": "<end>", "lstrip": false}]}""", "a<tool>b")]
    [InlineData("""{"extra_special_tokens": ["<tool>"]}""", """{"pad_token": "<end>"}""", "ab<think>")]
    [InlineData("""{"mask_token": {"content": "<think>"}}""", "{}", "a<tool>b<end>")]
    [InlineData("""{"added_tokens_decoder": {"300": {"content": "<tool>", "special": true}, "301": {"content": "<think>", "special": false}, "302": {"content": "<end>"}}}""", "{}", "ab<think><end>")]
    [InlineData("""{"eos_token": "<end>", "added_tokens_decoder": {"300": {"content": "<tool>"}, "301": {"content": "<think>"}, "302": {"content": "<end>"}}}""", "{}", "a<tool>b<think>")]
    public void OnlyTokensThatAConfigNamesAreSpecial(string config, string map, string shown)
    {
        var model = TinyTokenizers.Document("bytes")["model"]!;
        IEnumerable<string> merges = model["merges"]!.AsArray().Select(merge => merge is JsonArray pair ? $"{pair[0]} {pair[1]}" : merge!.ToString());
        using TempFolder folder = new();
        File.WriteAllText(folder["vocab.json"], model["vocab"]!.ToJsonString());
        File.WriteAllText(folder["merges.txt"], string.Join('\n', merges));
        File.WriteAllText(folder["added_tokens.json"], """{"<tool>": 300, "<think>": 301, "<end>": 302}""");
        File.WriteAllText(folder["tokenizer_config.json"], config);
        File.WriteAllText(folder["special_tokens_map.json"], map);
        Tokenizer tokenizer = TokenizerLoader.FromFolder(folder.Path);
        int[] ids = tokenizer.Encode("a<tool>b<think><end>");
        Assert.Equal([300, 301, 302], ids.Where(id => id >= 300));
        Assert.Equal("a<tool>b<think><end>", tokenizer.Decode(ids));
        Assert.Equal(shown, tokenizer.Decode(ids, skipSpecialTokens: true));
    }

    [Fact]
    public void ATokenWithARoleIsSpecialWhateverTokenizerJsonSays()
    {
        JsonObject document = TinyTokenizers.Document("bytes");
        document["added_tokens"]!.AsArray().Add(new JsonObject { ["id"] = 300, ["content"] = "<end>", ["special"] = false });
        using TempFolder folder = new();
        File.WriteAllText(folder["tokenizer.json"], document.ToJsonString());
        Assert.Equal("a<end>", TokenizerLoader.FromFolder(folder.Path).Decode([.. TinyTokenizers.Bytes.Encode("a"), 300], skipSpecialTokens: true));
        File.WriteAllText(folder["tokenizer_config.json"], """{"eos_token": "<end>"}""");
        Assert.Equal("a", TokenizerLoader.FromFolder(folder.Path).Decode([.. TinyTokenizers.Bytes.Encode("a"), 300], skipSpecialTokens: true));
    }

    [Fact]
    public void ASentencePieceModelTakesAddedTokensThatHaveARow()
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["tokenizer.model"], SentencePieceFiles.Model());
        int size = TokenizerLoader.FromFolder(folder.Path).VocabularySize;
        File.WriteAllText(folder["added_tokens.json"], $$"""{"<unk>": 0, "<|im_start|>": {{size}}, "[PAD]": {{size + 1}}}""");
        File.WriteAllText(folder["config.json"], $$"""{"vocab_size": {{size + 1}}}""");
        File.WriteAllText(folder["special_tokens_map.json"], """{"additional_special_tokens": ["<|im_start|>"]}""");
        Tokenizer tokenizer = TokenizerLoader.FromFolder(folder.Path);
        Assert.Equal(size + 1, tokenizer.VocabularySize);
        Assert.Contains(size, tokenizer.Encode("the<|im_start|>and"));
        Assert.True(tokenizer.IsSpecial(size));
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
