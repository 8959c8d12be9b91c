using System.Net;
using System.Text.Json;
using Nibble.Generation;

namespace Nibble.Tests.Server;

/// <summary>What the server answers is what the model generates, told as clients of OpenAI read it.</summary>
public sealed class AnswerTests : IClassFixture<AnswerTests.Fixture>
{
    private const string Chat = "/v1/chat/completions", Completions = "/v1/completions";

    private readonly ServerRun _run;

    public AnswerTests(Fixture fixture) => _run = fixture.Run;

    [Fact]
    public async Task ACompletionIsWhatGenerateGives()
    {
        JsonElement answer = await _run.Answer(Completions, new { model = "whatever", prompt = "def add(", max_tokens = 12, temperature = 0 });
        string expected = Text("def add(", new GenerationOptions { MaxTokens = 12 });
        JsonElement choice = answer.GetProperty("choices")[0];
        Assert.Equal(expected, choice.GetProperty("text").GetString());
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(("text_completion", "nibble-llama-4m"), (answer.GetProperty("object").GetString(), answer.GetProperty("model").GetString()));
        Assert.StartsWith("cmpl-", answer.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.InRange(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - answer.GetProperty("created").GetInt64(), 0, 60);
        JsonElement usage = answer.GetProperty("usage");
        Assert.Equal((3, 12, 15), (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("completion_tokens").GetInt32(), usage.GetProperty("total_tokens").GetInt32()));
    }

    [Fact]
    public async Task AModelOfTheHubIsCalledByItsNameThere()
    {
        using TempFolder cache = new();
        string snapshots = Directory.CreateDirectory(Path.Combine(cache.Path, "models--org--name", "snapshots")).FullName, snapshot = Path.Combine(snapshots, new string('a', 40));
        Directory.CreateSymbolicLink(snapshot, Path.Combine(TestData.Assets, "nibble-llama-4m"));
        using ServerRun run = new(name: snapshot);
        using JsonDocument models = JsonDocument.Parse(await run.Client.GetStringAsync(new Uri("/v1/models", UriKind.Relative)));
        Assert.Equal("org/name", models.RootElement.GetProperty("data")[0].GetProperty("id").GetString());
        Assert.Contains("org/name", await run.Client.GetStringAsync(new Uri("/v1/models/org/name", UriKind.Relative)), StringComparison.Ordinal);
    }

    /// <summary>Drawn ones, too: choice i draws with the seed + i.</summary>
    [Fact]
    public async Task ChoicesPromptsAndEchoesStandInOrder()
    {
        JsonElement answer = await _run.Answer(Completions, new { prompt = new[] { "def add(", "import os" }, n = 2, max_tokens = 6, temperature = 0.9, top_p = 0.9, top_k = 50, min_p = 0.2, seed = 11, echo = true });
        string[] texts = [.. answer.GetProperty("choices").EnumerateArray().Select(choice => choice.GetProperty("text").GetString()!)];
        string Drawn(string prompt, int seed) => prompt + Text(prompt, new GenerationOptions { MaxTokens = 6, Temperature = 0.9, TopP = 0.9, TopK = 50, MinP = 0.2, Seed = seed });
        Assert.Equal([Drawn("def add(", 11), Drawn("def add(", 12), Drawn("import os", 11), Drawn("import os", 12)], texts);
        Assert.Equal([0, 1, 2, 3], answer.GetProperty("choices").EnumerateArray().Select(choice => choice.GetProperty("index").GetInt32()));
        JsonElement usage = answer.GetProperty("usage");
        // Prompts count once.
        Assert.Equal((5, 24), (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("completion_tokens").GetInt32()));
    }

    [Fact]
    public async Task TokensAreAPromptToo()
    {
        int[] tokens = _run.Model.Tokenizer.Encode("def add(");
        JsonElement one = await _run.Answer(Completions, new { prompt = tokens, max_tokens = 5, temperature = 0 });
        JsonElement two = await _run.Answer(Completions, new { prompt = new[] { tokens, [5, 6] }, max_tokens = 5, temperature = 0 });
        string expected = Text("def add(", new GenerationOptions { MaxTokens = 5 });
        Assert.Equal(expected, one.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal(expected, two.GetProperty("choices")[0].GetProperty("text").GetString());
    }

    [Fact]
    public async Task AChatGoesThroughTheTemplate()
    {
        object[] messages =
        [
            new { role = "developer", content = "Python only" }, new { role = "user", content = new[] { new { type = "text", text = "one" }, new { type = "text", text = "two" } } },
            new { role = "assistant", content = "so", refusal = (string?)null, annotations = Array.Empty<int>() }, new { role = "user", content = "def add(" },
        ];
        JsonElement answer = await _run.Answer(Chat, new { messages, max_completion_tokens = 8, temperature = 0 });
        string expected = Text("# system: Python only\n# user: one\ntwo\n# assistant: so\n# user: def add(\n# assistant:", new GenerationOptions { MaxTokens = 8 });
        JsonElement choice = answer.GetProperty("choices")[0];
        Assert.Equal(("assistant", expected), (choice.GetProperty("message").GetProperty("role").GetString(), choice.GetProperty("message").GetProperty("content").GetString()));
        Assert.Equal("chat.completion", answer.GetProperty("object").GetString());
    }

    [Fact]
    public async Task StreamsHaveTheSameText()
    {
        object[] messages = [new { role = "user", content = "def add(" }];
        JsonElement[] events = await _run.Events(Chat, new { messages, max_tokens = 10, temperature = 0.7, seed = 5, n = 2, stream = true, stream_options = new { include_usage = true } });
        JsonElement whole = await _run.Answer(Chat, new { messages, max_tokens = 10, temperature = 0.7, seed = 5, n = 2 });
        for (int i = 0; i < 2; i++)
        {
            JsonElement[] own = [.. events.SelectMany(one => one.GetProperty("choices").EnumerateArray()).Where(choice => choice.GetProperty("index").GetInt32() == i)];
            Assert.Equal("assistant", own[0].GetProperty("delta").GetProperty("role").GetString());
            string streamed = string.Concat(own.Select(choice => choice.GetProperty("delta").TryGetProperty("content", out JsonElement content) ? content.GetString() : string.Empty));
            Assert.Equal(whole.GetProperty("choices")[i].GetProperty("message").GetProperty("content").GetString(), streamed);
            Assert.Equal("length", own[^1].GetProperty("finish_reason").GetString());
            Assert.All(own.SkipLast(1), choice => Assert.Equal(JsonValueKind.Null, choice.GetProperty("finish_reason").ValueKind));
        }

        Assert.Single(events.Select(one => one.GetProperty("id").GetString()).Distinct());
        Assert.Equal(20, events[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.Equal(0, events[^1].GetProperty("choices").GetArrayLength());
    }

    [Fact]
    public async Task ACompletionStreamsWithItsEcho()
    {
        JsonElement[] events = await _run.Events(Completions, new { prompt = "def add(", max_tokens = 10, temperature = 0, echo = true, stream = true });
        JsonElement[] choices = [.. events.Select(one => one.GetProperty("choices")[0])];
        Assert.Equal("def add(" + Text("def add(", new GenerationOptions { MaxTokens = 10 }), string.Concat(choices.Select(choice => choice.GetProperty("text").GetString())));
        Assert.Equal("length", choices[^1].GetProperty("finish_reason").GetString());
        Assert.All(events, one => Assert.False(one.TryGetProperty("usage", out _)));
    }

    [Fact]
    public async Task StopTextsEndAnAnswer()
    {
        string whole = Text("def add(", new GenerationOptions { MaxTokens = 40 });
        string stop = whole[12..15];
        foreach (object given in new object[] { stop, new[] { "never this", stop } })
        {
            JsonElement choice = (await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 40, temperature = 0, stop = given })).GetProperty("choices")[0];
            Assert.Equal((whole[..whole.IndexOf(stop, StringComparison.Ordinal)], "stop"), (choice.GetProperty("text").GetString(), choice.GetProperty("finish_reason").GetString()));
        }
    }

    [Fact]
    public async Task LogProbabilitiesAreTheModels()
    {
        JsonElement answer = await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 5, temperature = 0, logprobs = 3 });
        JsonElement scores = answer.GetProperty("choices")[0].GetProperty("logprobs");
        int[] prompt = _run.Model.Tokenizer.Encode("def add(");
        using Generator generator = _run.Model.CreateGenerator([prompt], new GenerationOptions { MaxTokens = 5 });
        _ = generator.Run().Count();
        float[] expected = _run.Model.LogLikelihoods([.. prompt, .. generator.Results[0].Tokens])[^5..];
        float[] told = [.. scores.GetProperty("token_logprobs").EnumerateArray().Select(one => one.GetSingle())];
        Assert.All(expected.Zip(told), pair => Assert.Equal(pair.First, pair.Second, 3));
        // Greedy: each token is the most likely one.
        Assert.All(scores.GetProperty("top_logprobs").EnumerateArray().Zip(told), pair => Assert.Equal(pair.Second, pair.First.EnumerateObject().First().Value.GetSingle()));
        Assert.Equal(3, scores.GetProperty("top_logprobs")[0].EnumerateObject().Count());
        Assert.Equal(answer.GetProperty("choices")[0].GetProperty("text").GetString(), string.Concat(scores.GetProperty("tokens").EnumerateArray().Select(one => one.GetString())));

        object[] messages = [new { role = "user", content = "x" }];
        JsonElement chat = await _run.Answer(Chat, new { messages, max_tokens = 4, temperature = 0, logprobs = true, top_logprobs = 2 });
        JsonElement[] entries = [.. chat.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").EnumerateArray()];
        Assert.Equal(4, entries.Length);
        Assert.All(entries, entry => Assert.Equal(entry.GetProperty("logprob").GetDouble(), entry.GetProperty("top_logprobs")[0].GetProperty("logprob").GetDouble()));
        JsonElement[] events = await _run.Events(Chat, new { messages, max_tokens = 4, temperature = 0, logprobs = true, stream = true });
        Assert.Equal(
            entries.Select(entry => entry.GetProperty("token").GetString()),
            events.SelectMany(one => one.GetProperty("choices")[0].GetProperty("logprobs") is { ValueKind: JsonValueKind.Object } inner ? inner.GetProperty("content").EnumerateArray() : default).Select(entry => entry.GetProperty("token").GetString()));
    }

    [Fact]
    public async Task BiasesAndPenaltiesChangeWhatIsTaken()
    {
        int[] tokens = _run.Model.Tokenizer.Encode("def add(");
        using Generator generator = _run.Model.CreateGenerator([tokens], new GenerationOptions { MaxTokens = 1 });
        int first = generator.Run().Single().Token;
        int banned = first, wanted = _run.Model.Tokenizer.Encode("while")[0];
        JsonElement Choice(JsonElement answer) => answer.GetProperty("choices")[0];
        string usual = Choice(await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 1, temperature = 0 })).GetProperty("text").GetString()!;
        string without = Choice(await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 1, temperature = 0, logit_bias = new Dictionary<string, int> { [$"{banned}"] = -100 } })).GetProperty("text").GetString()!;
        string with = Choice(await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 3, temperature = 0, logit_bias = new Dictionary<string, int> { [$"{wanted}"] = 100 } })).GetProperty("text").GetString()!;
        Assert.NotEqual(usual, without);
        Assert.Equal(_run.Model.Tokenizer.Decode([wanted, wanted, wanted]), with);
        string once = Choice(await _run.Answer(Completions, new { prompt = "def add(", max_tokens = 3, temperature = 0, presence_penalty = 2, frequency_penalty = 2, logit_bias = new Dictionary<string, double> { [$"{wanted}"] = 30 } })).GetProperty("text").GetString()!;
        Assert.Equal(Text("def add(", new GenerationOptions { MaxTokens = 3, PresencePenalty = 2, FrequencyPenalty = 2, LogitBias = new Dictionary<int, float> { [wanted] = 30 } }), once);
    }

    [Fact]
    public async Task WhatRanBeforeIsTold()
    {
        string text = string.Concat(Enumerable.Range(0, 40).Select(i => $"value_{i} = {i * 7}\n"));
        _ = await _run.Answer(Completions, new { prompt = text, max_tokens = 2 });
        JsonElement usage = (await _run.Answer(Completions, new { prompt = text + "x", max_tokens = 2 })).GetProperty("usage");
        Assert.True(usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32() > usage.GetProperty("prompt_tokens").GetInt32() - 5);
    }

    [Fact]
    public async Task WithoutASeedAnswersDiffer()
    {
        async Task<string> Draw() => (await _run.Answer(Completions, new { prompt = "def ", max_tokens = 16 })).GetProperty("choices")[0].GetProperty("text").GetString()!;
        Assert.NotEqual(await Draw(), await Draw());
    }

    [Fact]
    public async Task ModelsAndHealthAreTold()
    {
        JsonElement list = JsonDocument.Parse(await _run.Client.GetStringAsync(new Uri("/v1/models", UriKind.Relative))).RootElement;
        Assert.Equal("nibble-llama-4m", list.GetProperty("data")[0].GetProperty("id").GetString());
        JsonElement card = JsonDocument.Parse(await _run.Client.GetStringAsync(new Uri("/v1/models/nibble-llama-4m", UriKind.Relative))).RootElement;
        Assert.Equal(("model", 512), (card.GetProperty("object").GetString(), card.GetProperty("max_model_len").GetInt32()));
        Assert.Equal(HttpStatusCode.NotFound, (await _run.Client.GetAsync(new Uri("/v1/models/gpt-4", UriKind.Relative))).StatusCode);
        JsonElement health = JsonDocument.Parse(await _run.Client.GetStringAsync(new Uri("/health", UriKind.Relative))).RootElement;
        Assert.Equal("ok", health.GetProperty("status").GetString());
    }

    private string Text(string prompt, GenerationOptions options) => string.Concat(_run.Model.Generate(prompt, options));

    public sealed class Fixture : IDisposable
    {
        internal ServerRun Run { get; } = new();

        public void Dispose() => Run.Dispose();
    }
}
