using Nibble.Backends.Cuda;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tests.Cuda;
using Nibble.Tests.Models;

namespace Nibble.Tests.Generation;

/// <summary>Rows that come and go get the tokens that each would get alone.</summary>
public class ContinuousBatchTests
{
    [Theory]
    [MemberData(nameof(GoldenModel.Names), MemberType = typeof(GoldenModel))]
    public void RowsThatJoinAndLeaveGetWhatTheyGetAlone(string name)
    {
        using GoldenModel golden = new(name);
        if (golden.Model.Facts.Labels > 0)
        {
            return;
        }

        for (int seed = 0; seed < 6; seed++)
        {
            CheckSchedule(golden.Model, new Random(seed), capacity: 1 + (seed % 4), longest: Math.Min(24, golden.Model.Facts.Context - 8));
        }
    }

    /// <summary>Prompts longer than a piece, contexts that fill up, vocabularies of real size.</summary>
    [Theory]
    [InlineData("nibble-gpt2-10m", KvCacheType.F32)]
    [InlineData("nibble-llama-4m", KvCacheType.F32)]
    [InlineData("nibble-llama-4m", KvCacheType.Int8)]
    [InlineData("nibble-llama-4m", KvCacheType.F16)]
    public void SoDoRowsOfTheEmbeddedModels(string name, KvCacheType type)
    {
        using LoadedModel loaded = LoadedModel.Load(Path.Combine(TestData.Assets, name), new LoadOptions { KvCache = type });
        // What is kept of another prompt came out of passes of other shapes: 8-bit keys show their last bits. So these share nothing.
        CheckSchedule(loaded.Model, new Random(3), capacity: 5, longest: 400, shares: type == KvCacheType.F32);
    }

    /// <summary>The emulated card: rows beside each other, and alone by a recorded step.</summary>
    [SkippableTheory]
    [InlineData("gpt2", false)]
    [InlineData("llama", true)]
    [InlineData("qwen3", true)]
    public void SoDoRowsOnACard(string name, bool records)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        EmulatedDevice device = new() { Records = records };
        using CudaBackend backend = new(device);
        using GoldenModel golden = new(Path.Combine("models", name), backend);
        // Products of one row and of several sum in another order there.
        CheckSchedule(golden.Model, new Random(5), capacity: 3, longest: 10, turns: 12, shares: false);
        Assert.Equal(records, device.Recordings > 0);
    }

    [Fact]
    public void WhatRanBeforeIsKeptOrCopied()
    {
        using LoadedModel loaded = Load();
        using ContinuousBatch batch = new(loaded.Model, loaded.Tokenizer, 3);
        int[] system = [.. Enumerable.Range(0, 150).Select(i => 300 + (i * 37 % 999))];
        GenerationOptions options = new() { MaxTokens = 4, IgnoreEos = true };
        int[] first = [.. system, 5, 6, 7];
        BatchRow alone = batch.Add(first, [], options);
        Assert.Equal(0, alone.CachedTokens);
        Finish(batch);
        // Its continuation takes that very cache; another conversation copies what both have in common, from one that is idle or under way.
        BatchRow next = batch.Add([.. first, .. alone.Result.Tokens.SkipLast(1), 9, 10], [], options);
        // The third joins before the second has run.
        BatchRow other = batch.Add([.. system, 8, 9], [], options), twin = batch.Add([.. system, 8, 9], [], options);
        Finish(batch);
        Assert.Equal((first.Length + 3, system.Length, system.Length + 1), (next.CachedTokens, other.CachedTokens, twin.CachedTokens));
        Assert.Equal(other.Result.Tokens, twin.Result.Tokens);
        Assert.Equal(Alone(loaded.Model, [.. system, 8, 9], options), other.Result.Tokens);
        Assert.Equal(Alone(loaded.Model, [.. first, .. alone.Result.Tokens.SkipLast(1), 9, 10], options), next.Result.Tokens);
        // The same prompt again: its last token alone must run.
        BatchRow again = batch.Add(first, [], options);
        Finish(batch);
        Assert.Equal(first.Length - 1, again.CachedTokens);
        // Nothing in common takes the cache that was used longest ago, and the conversations stay.
        _ = batch.Add([1, 2, 3], [], options);
        Finish(batch);
        BatchRow last = batch.Add([.. system, 8, 9], [], options);
        Finish(batch);
        Assert.True(last.CachedTokens >= system.Length);
    }

    [Fact]
    public void ConversationsThatOutgrowTheirCacheKeepIt()
    {
        using LoadedModel loaded = Load();
        using PromptCache past = new(loaded.Model);
        int[] prompt = [.. Enumerable.Range(0, 300).Select(i => 1 + (i * 31 % 8000))];
        GenerationOptions options = new() { MaxTokens = 3, IgnoreEos = true };
        past.Begin(prompt[..5], 5);
        past.Clear();
        using (Generator generator = new(loaded.Model, null, [], [prompt[..200]], options, past))
        {
            Assert.Equal(3, generator.Run().Count());
        }

        // A model's context bounds the capacity, so only a direct request can ask for more than twice of it.
        int capacity = past.Current!.Capacity;
        past.Begin(prompt, capacity + 1);
        Assert.Equal(200, past.Kept);
        Assert.True(past.Current.Capacity > capacity);
        using Generator rest = new(loaded.Model, null, [], [prompt], options, past);
        Assert.Equal(Alone(loaded.Model, prompt, options), rest.Run().Select(step => step.Token));
    }

    [Fact]
    public void RowsMayLeaveBeforeTheyHaveBegun()
    {
        using LoadedModel loaded = Load();
        using ContinuousBatch batch = new(loaded.Model, loaded.Tokenizer, 2);
        GenerationOptions options = new() { MaxTokens = 5 };
        BatchRow gone = batch.Add([.. Enumerable.Repeat(7, 300)], [], options), stays = batch.Add([1, 2, 3], [], options);
        Assert.Throws<ArgumentException>(() => batch.Add([1], [], options));
        batch.Remove(gone);
        batch.Remove(gone);
        Finish(batch);
        Assert.Equal(Alone(loaded.Model, [1, 2, 3], options), stays.Result.Tokens);
        Assert.Empty(gone.Result.Tokens);
    }

    /// <summary>A pass of several rows that fails is tried row by row: here one row's cache is full, which no pass can append to.</summary>
    [Theory]
    [InlineData("models/llama")]
    [InlineData("models/gpt2")]
    public void ARowThatFailsEndsAlone(string name)
    {
        using GoldenModel golden = new(name);
        using ContinuousBatch batch = new(golden.Model, null, 3);
        GenerationOptions options = new() { MaxTokens = 9, IgnoreEos = true, Temperature = 0.8 };
        int[][] prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]];
        BatchRow[] rows = [.. prompts.Select(prompt => batch.Add(prompt, [], options))];
        List<(BatchRow Row, GenerationStep Step)> steps = [];
        List<(BatchRow Row, Exception Error)> failures = [], seen = [];
        while (batch.Rows.Count > 0)
        {
            batch.Step(steps, failures);
            seen.AddRange(failures);
            if (rows[1].Result.Tokens.Count == 4)
            {
                rows[1].Cache.Length = rows[1].Cache.First + rows[1].Cache.Capacity;
            }
        }

        Assert.Same(rows[1], Assert.Single(seen).Row);
        Assert.Equal(Alone(golden.Model, prompts[0], options), rows[0].Result.Tokens);
        Assert.Equal(Alone(golden.Model, prompts[2], options), rows[2].Result.Tokens);
        Assert.Equal(4, rows[1].Result.Tokens.Count);
        // Its cache is free again, and nothing of what it held is kept.
        BatchRow again = batch.Add([8, 9], [], options);
        Finish(batch);
        Assert.Equal(0, again.CachedTokens);
        Assert.Equal(Alone(golden.Model, [8, 9], options), again.Result.Tokens);
    }

    [Fact]
    public void WhatNoRowCanHaveIsRefused()
    {
        using LoadedModel loaded = Load();
        using ContinuousBatch batch = new(loaded.Model, null, 1);
        Assert.Contains("513 tokens", Assert.Throws<NibbleException>(() => batch.Add(new int[513], [], new GenerationOptions())).Message, StringComparison.Ordinal);
        Assert.Contains("stop texts", Assert.Throws<NibbleException>(() => batch.Add([1], [], new GenerationOptions { Stop = ["a"] })).Message, StringComparison.Ordinal);
        GenerationOptions bias = new() { LogitBias = new Dictionary<int, float> { [8192] = 1 } };
        Assert.Contains("token 8192", Assert.Throws<NibbleException>(() => batch.Add([1], [], bias)).Message, StringComparison.Ordinal);
        Assert.Empty(batch.Rows);
    }

    // Random prompts, some of which begin alike; greedy and drawn; joins and leaves at any step.
    private static void CheckSchedule(CausalModel model, Random random, int capacity, int longest, bool shares = true, int turns = 40)
    {
        using ContinuousBatch batch = new(model, null, capacity);
        int[] common = [.. Enumerable.Range(0, longest / 2).Select(_ => random.Next(model.Facts.Vocabulary))];
        List<(BatchRow Row, int[] Prompt, GenerationOptions Options)> all = [];
        List<(BatchRow Row, GenerationStep Step)> steps = [];
        List<(BatchRow Row, Exception Error)> failures = [];
        for (int turn = 0; turn < turns || batch.Rows.Count > 0; turn++)
        {
            while (turn < turns && batch.Rows.Count < capacity && random.Next(2) == 0)
            {
                int[] own = [.. Enumerable.Range(0, random.Next(1, (longest / 2) + 1)).Select(_ => random.Next(model.Facts.Vocabulary))];
                int[] prompt = !shares ? [all.Count, .. own] : random.Next(3) == 0 ? own : [.. common[..random.Next(common.Length)], .. own];
                GenerationOptions options = new()
                {
                    MaxTokens = random.Next(1, 12), Seed = random.Next(), Temperature = random.Next(2) * 0.9, TopP = 0.95, RepetitionPenalty = 1 + (random.Next(2) * 0.3),
                };
                all.Add((batch.Add(prompt, [], options), prompt, options));
            }

            if (batch.Rows.Count > 1 && random.Next(8) == 0)
            {
                batch.Remove(batch.Rows[random.Next(batch.Rows.Count)]);
            }

            batch.Step(steps, failures);
            Assert.Empty(failures);
        }

        Assert.True(all.Count > 3);
        foreach ((BatchRow row, int[] prompt, GenerationOptions options) in all)
        {
            // Of a row that left early, what it had.
            int[] alone = Alone(model, prompt, options);
            Assert.Equal(alone[..row.Result.Tokens.Count], row.Result.Tokens);
        }
    }

    private static void Finish(ContinuousBatch batch)
    {
        List<(BatchRow Row, GenerationStep Step)> steps = [];
        List<(BatchRow Row, Exception Error)> failures = [];
        while (batch.Rows.Count > 0)
        {
            batch.Step(steps, failures);
            Assert.Empty(failures);
        }
    }

    private static int[] Alone(CausalModel model, int[] prompt, GenerationOptions options)
    {
        using Generator generator = new(model, null, [], [prompt], options);
        return [.. generator.Run().Select(step => step.Token)];
    }

    private static LoadedModel Load() => LoadedModel.Load(Path.Combine(TestData.Assets, "nibble-llama-4m"), new LoadOptions { Threads = 1 });
}
