using System.Text.Json;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tests.Models;

namespace Nibble.Tests.Generation;

/// <summary>The embedded models, generating through the public interface.</summary>
public class EmbeddedGenerationTests
{
    public static TheoryData<string> Names => ["nibble-gpt2-10m", "nibble-llama-4m"];

    [Theory]
    [MemberData(nameof(Names))]
    public void GreedyTextEqualsTheReference(string name)
    {
        using LoadedModel loaded = Load(name);
        foreach (JsonElement prompt in Golden(name).GetProperty("prompts").EnumerateArray())
        {
            int[] expected = [.. prompt.GetProperty("greedy_ids").EnumerateArray().Select(id => id.GetInt32())];
            using Generator generator = loaded.CreateGenerator([prompt.GetProperty("text").GetString()!], new() { MaxTokens = expected.Length });
            string streamed = string.Concat(generator.Run().Select(step => step.Text));
            Assert.Equal(expected, generator.Results[0].Tokens);
            Assert.Equal(prompt.GetProperty("greedy_text").GetString(), streamed);
            Assert.Equal(streamed, generator.Results[0].Text);
            Assert.True(generator.Timings.DecodeTokensPerSecond > 0);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void LastLogitsEqualTheReference(string name)
    {
        using LoadedModel loaded = Load(name);
        foreach (JsonElement prompt in Golden(name).GetProperty("prompts").EnumerateArray())
        {
            if (prompt.TryGetProperty("last_position_logits", out JsonElement logits))
            {
                float[] actual = ModelRun.Whole(loaded.Model, loaded.Tokenizer.Encode(prompt.GetProperty("text").GetString()!))[^1];
                Assert.InRange(ModelRun.Error([actual], [GoldenRun.Floats(logits)]), 0, 1e-4);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void PromptsOfABatchContinueAsAlone(string name)
    {
        using LoadedModel loaded = Load(name);
        string[] prompts = ["def add(", "import os\nimport sys\n", "class Stack:\n    \"\"\"A stack of things.\"\"\"\n"];
        foreach (double temperature in new[] { 0, 0.8 })
        {
            GenerationOptions options = new() { MaxTokens = 12, Temperature = temperature, TopK = 40, TopP = 0.95, Seed = 7 };
            string[] alone = [.. prompts.Select(prompt => string.Concat(loaded.Generate(prompt, options)))];
            using Generator batch = loaded.CreateGenerator(prompts, options);
            Assert.Equal(prompts.Length * options.MaxTokens, batch.Run().Count());
            Assert.Equal(alone, batch.Results.Select(row => row.Text));
        }
    }

    [Fact]
    public void SeedsDecideWhatIsDrawn()
    {
        using LoadedModel loaded = Load("nibble-llama-4m");
        string Draw(long seed) => string.Concat(loaded.Generate("def ", new GenerationOptions { MaxTokens = 16, Temperature = 1, Seed = seed }));
        Assert.Equal(Draw(1), Draw(1));
        Assert.NotEqual(Draw(1), Draw(2));
    }

    [Fact]
    public void AStopTextEndsTheTextBeforeItself()
    {
        using LoadedModel loaded = Load("nibble-gpt2-10m");
        string whole = string.Concat(loaded.Generate("def add(", new GenerationOptions { MaxTokens = 40 }));
        string stop = whole[10..14];
        using Generator generator = loaded.CreateGenerator(["def add("], new GenerationOptions { MaxTokens = 40, Stop = ["never this", stop] });
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], string.Concat(generator.Run().Select(step => step.Text)));
        Assert.Equal(FinishReason.Stop, generator.Results[0].Finish);
    }

    [Fact]
    public void GenerationEndsAtTheContext()
    {
        using LoadedModel loaded = Load("nibble-gpt2-10m");
        int[] prompt = [.. Enumerable.Range(0, loaded.Facts.Context - 3).Select(i => 300 + (i % 50))];
        using Generator generator = loaded.CreateGenerator([prompt], new GenerationOptions { MaxTokens = 100, IgnoreEos = true });
        Assert.Equal(4, generator.Run().Count());
        Assert.Equal(FinishReason.Length, generator.Results[0].Finish);
    }

    [Fact]
    public void WrongInputIsRefusedClearly()
    {
        using LoadedModel loaded = Load("nibble-gpt2-10m");
        int[] tooLong = [.. Enumerable.Repeat(5, loaded.Facts.Context + 1)];
        Assert.Contains("513 tokens", Refusal(() => loaded.LogLikelihoods(tooLong)), StringComparison.Ordinal);
        Assert.Contains("no tokens", Refusal(() => loaded.Generate(string.Empty).ToList()), StringComparison.Ordinal);
        Assert.Contains("8,192 entries", Refusal(() => loaded.LogLikelihoods([1, 8192])), StringComparison.Ordinal);
        Assert.Contains("--top-p", Refusal(() => loaded.Generate("a", new GenerationOptions { TopP = 1.5 }).ToList()), StringComparison.Ordinal);
        Assert.Contains("not available", Refusal(() => LoadedModel.Load(loaded.Path, new LoadOptions { Device = "tpu" })), StringComparison.Ordinal);
    }

    private static string Refusal(Action action) => Assert.Throws<NibbleException>(action).Message;

    private static LoadedModel Load(string name) => LoadedModel.Load(Path.Combine(TestData.Assets, name), new LoadOptions { Threads = 1 });

    private static JsonElement Golden(string name)
    {
        using JsonDocument document = JsonDocument.Parse(TestData.Golden("embedded", name + ".json"));
        return document.RootElement.Clone();
    }
}
