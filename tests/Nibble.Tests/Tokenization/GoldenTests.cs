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
