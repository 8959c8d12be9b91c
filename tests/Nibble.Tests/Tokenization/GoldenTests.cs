using System.IO.Compression;
using System.Text.RegularExpressions;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

public class GoldenTests
{
    [SkippableTheory]
    [InlineData("gpt-2", "data/tokenizers/gpt2/vocab.json")]
    [InlineData("llama-spm", "data/tokenizers/llama2/tokenizer.model")]
    [InlineData("llama-spm", "data/tokenizers/llama2/tokenizer.json")]
    [InlineData("llama-bpe", "data/tokenizers/llama3/tokenizer.model")]
    public void EveryCaseOfLlamaCppMatches(string golden, string file)
    {
        (string Text, int[] Ids)[] cases = GoldenCases.Read(golden);
        Check(TokenizerLoader.FromFile(GoldenCases.Need(file)), cases);
    }

    [SkippableTheory]
    [InlineData("llama-spm")]
    [InlineData("phi-3")]
    public void PiecesOfAGgufFileMakeTheSameTokenizer(string golden)
    {
        Dictionary<string, object> gguf = GgufVocabulary.Read(GoldenCases.Need($"{GoldenCases.Folder}/ggml-vocab-{golden}.gguf"));
        object[] tokens = (object[])gguf["tokenizer.ggml.tokens"];
        object[] scores = (object[])gguf["tokenizer.ggml.scores"];
        object[] types = (object[])gguf["tokenizer.ggml.token_type"];
        SentencePieceModel model = new() { ModelType = 2, RemoveExtraWhitespaces = false };
        model.Pieces.AddRange(tokens.Select((token, id) => new SentencePiece((string)token, (float)scores[id], (PieceType)(int)types[id])));
        using TempFolder noConfigs = new();
        Tokenizer tokenizer = SentencePieceTokenizer.Build(model, golden, SpecialTokenFiles.Read(noConfigs.Path, Nibble.IO.Limits.Default), Nibble.IO.Limits.Default);
        Check(tokenizer, GoldenCases.Read(golden));
    }

    [SkippableFact]
    public void BothFormsOfLlama2AreTheSameTokenizer()
    {
        Tokenizer json = TokenizerLoader.FromFile(GoldenCases.Need("data/tokenizers/llama2/tokenizer.json"));
        Tokenizer model = TokenizerLoader.FromFile(GoldenCases.Need("data/tokenizers/llama2/tokenizer.model"));
        Assert.Equal((32000, 1, 2, true), (model.VocabularySize, model.BosId, model.EosId, model.AddsBos));
        Assert.Equal((32000, 1, 2, true), (json.VocabularySize, json.BosId, json.EosId, json.AddsBos));
        string text = File.ReadAllText(Path.Combine(TestData.Assets, "text", "test.txt"))[..100_000];
        Assert.Equal(json.Encode(text), model.Encode(text));
    }

    [SkippableFact]
    public void Llama3HasItsSpecialTokens()
    {
        Tokenizer tokenizer = TokenizerLoader.FromFile(GoldenCases.Need("data/tokenizers/llama3/tokenizer.model"));
        Assert.Equal((128_256, 128_000, 128_001, true), (tokenizer.VocabularySize, tokenizer.BosId, tokenizer.EosId, tokenizer.AddsBos));
        Assert.Equal([128_001, 128_009], tokenizer.EosIds);
        Assert.Equal([128_000, 15339, 128_009, 882], tokenizer.Encode("hello<|eot_id|>user"));
        Assert.Equal("hellouser", tokenizer.Decode([128_000, 15339, 128_009, 882], skipSpecialTokens: true));
        Assert.Equal("<|reserved_special_token_250|>", tokenizer.TokenText(128_255));
    }

    [SkippableFact]
    public void TheStoriesVocabularyCountsItsGoldenTokens()
    {
        // golden_logits.json: first 6,000 characters with blank lines folded to one newline, without BOS.
        Tokenizer tokenizer = TokenizerLoader.FromFolder(GoldenCases.Need("data/models/stories260K"));
        using StreamReader reader = new(new GZipStream(File.OpenRead(GoldenCases.Need("data/text/tinystories_sample.txt.gz")), CompressionMode.Decompress));
        string text = Regex.Replace(reader.ReadToEnd()[..6000], "\n+", "\n");
        Assert.Equal((512, 1, 2), (tokenizer.VocabularySize, tokenizer.BosId, tokenizer.EosId));
        Assert.Equal(2781, tokenizer.Encode(text, addSpecialTokens: false).Length);
        Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text), skipSpecialTokens: true));
        Assert.Equal([1, 403, 407, 261, 378], tokenizer.Encode("Once upon a time"));
        Assert.Equal([1, 346, 306, 414, 432, 263, 304, 341, 443, 410, 475, 479, 472], tokenizer.Encode("Hello, world! 123"));
    }

    [SkippableTheory]
    [InlineData("qwen2")]
    [InlineData("starcoder")]
    [InlineData("falcon")]
    [InlineData("mpt")]
    public void VocabulariesThatAreNotAtHand(string golden)
    {
        string? folder = TestData.Shared($"data/tokenizers/{golden}");
        Skip.If(folder == null, $"the vocabulary of {golden} is not in shared/data/tokenizers, only its golden ids are");
        Check(TokenizerLoader.FromFolder(folder!), GoldenCases.Read(golden));
    }

    /// <summary>The golden ids are those of the text alone, without BOS.</summary>
    private static void Check(Tokenizer tokenizer, (string Text, int[] Ids)[] cases)
    {
        Assert.Equal(46, cases.Length);
        Assert.All(cases, item =>
        {
            Assert.Equal(item.Ids, tokenizer.Encode(item.Text, addSpecialTokens: false));
            Assert.Equal(item.Text, tokenizer.Decode(item.Ids));
        });
    }
}
