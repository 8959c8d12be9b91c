using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Runs.Recommending;
using Nibble.Runs.Studies;

namespace Nibble.Tests.Runs;

/// <summary>What is counted, what is measured, and what is chosen by the numbers.</summary>
public class RecommendTests
{
    private static readonly string Model = Path.Combine(TestData.Repository, "assets", "nibble-gpt2-10m");

    private static readonly RecommendRequest Ample = new(Model, 1_000_000_000) { Context = 512 };

    [Fact]
    public void MemoryIsTheSumOfItsParts()
    {
        RecommendCandidate own = Recommender.Of(Ample, long.MaxValue).Choose(null).Candidates.Single(candidate => candidate.Method.IsBaseline);
        // The weights are stored in BF16; keys and values stand in F32.
        ModelSizes sizes = ModelSizes.Of(Nibble.Formats.ModelConfig.Open(Model));
        Assert.Equal(2 * sizes.Parameters.Total, own.Memory.WeightBytes);
        Assert.Equal(2L * sizes.Facts.Layers * sizes.Facts.KvHeads * sizes.Facts.HeadDim * 4 * 512, own.Memory.CacheBytes);
        Assert.Equal(own.Memory.WeightBytes + own.Memory.CacheBytes + own.Memory.WorkspaceBytes + own.Memory.RuntimeBytes, own.Memory.TotalBytes);
        long cache = Cache(Ample with { Batch = 3 });
        Assert.Equal(3 * own.Memory.CacheBytes, cache);
        // 8-bit codes with an F32 scale a token and head.
        Assert.Equal(own.Memory.CacheBytes * (sizes.Facts.HeadDim + 4) / (4 * sizes.Facts.HeadDim), Cache(Ample with { KvCache = KvCacheType.Int8 }));

        static long Cache(RecommendRequest request) => Recommender.Of(request, long.MaxValue).Choose(null).Candidates[0].Memory.CacheBytes;
    }

    [Fact]
    public void TheModelAndWhatFitsAreMeasuredAndTheRestIsNamed()
    {
        Recommender all = Recommender.Of(Ample, long.MaxValue);
        Assert.Equal(10, all.Plan!.Cells.Count);
        Assert.True(all.Plan.Cells[0].Method.IsBaseline);
        // Room for some 4 bits a weight: a plan of mixed bits, and no form of 8 bits.
        long room = Total(all, "GPTQ 4 bit, group 128") + 100_000;
        Recommender few = Recommender.Of(Ample with { MemoryBytes = room }, long.MaxValue);
        string[] labels = [.. few.Plan!.Cells.Select(cell => cell.Method.Label)];
        Assert.Equal("as it is", labels[0]);
        Assert.Contains("GPTQ 4 bit, group 128", labels);
        Assert.Contains(labels, label => label.StartsWith("budget of 4", StringComparison.Ordinal));
        Assert.DoesNotContain(labels, label => label.Contains("8 bit", StringComparison.Ordinal));
        Assert.Equal("it does not fit", few.Choose(null).Candidates.Single(candidate => candidate.Method.Label.StartsWith("RTN 8", StringComparison.Ordinal)).LeftOut);
        Assert.False(few.Choose(null).Candidates.Single(candidate => candidate.Method.IsBaseline).Fits);
    }

    [Fact]
    public void WhereNothingFitsNothingIsMeasured()
    {
        Recommender none = Recommender.Of(Ample with { MemoryBytes = 50_000_000 }, long.MaxValue);
        Assert.Null(none.Plan);
        Recommendation found = none.Choose(null);
        Assert.Null(found.Chosen);
        Assert.All(found.Candidates, candidate => Assert.False(candidate.Fits));
        Assert.All(found.Candidates, candidate => Assert.NotNull(candidate.LeftOut));
    }

    [Fact]
    public void AModelThatIsTooLargeForTheMachineIsOnlyCounted()
    {
        Recommender large = Recommender.Of(Ample, 10_000_000);
        Assert.Null(large.Plan);
        Assert.Contains(large.Choose(null).Candidates, candidate => candidate.Fits && candidate.LeftOut!.Contains("this device has 10", StringComparison.Ordinal));
    }

    [Fact]
    public void WhatTakesTooLongIsLeftOutFromTheEnd()
    {
        StudyPlan all = Recommender.Of(Ample, long.MaxValue).Plan!;
        Recommender some = Recommender.Of(Ample with { Seconds = all.Cells.Take(4).Sum(cell => cell.Estimate.Seconds) + 0.5 }, long.MaxValue);
        Assert.Equal(["as it is", "GPTQ 4 bit, group 128", "RTN 8 bit, group 64", "NF4 + double quantization"], some.Plan!.Cells.Select(cell => cell.Method.Label).Take(4));
        string left = $"takes roughly {all.Cells.Single(cell => cell.Method.Label.StartsWith("GPTQ 2", StringComparison.Ordinal)).Estimate.Seconds:N0} s, and ";
        Assert.Contains(left, some.Choose(null).Candidates.Single(candidate => candidate.Method.Label.StartsWith("GPTQ 2", StringComparison.Ordinal)).LeftOut, StringComparison.Ordinal);
        // Something is always compared.
        Assert.Equal(2, Recommender.Of(Ample with { Seconds = 0.01 }, long.MaxValue).Plan!.Cells.Count);
    }

    [Fact]
    public void ACardMeasuresMoreInTheSameTime()
    {
        RecommendRequest request = Ample with { MemoryBytes = 3_000_000_000, Threads = 1, Seconds = 20 };
        Assert.InRange(Recommender.Of(request, long.MaxValue).Plan!.Cells.Count, 2, Recommender.Of(request with { Device = "cuda" }, long.MaxValue).Plan!.Cells.Count - 3);
    }

    [Theory]
    // Perplexity ratio with its interval, memory, speed: of GPTQ 4 bit, RTN 8 bit, NF4.
    [InlineData("1.03 1.02 1.04 80 300; 1.001 0.999 1.003 130 200; 1.09 1.08 1.10 81 400", "RTN 8 bit, group 64", "RTN 8 bit, group 64", "as it is")]
    [InlineData("1.0005 0.999 1.002 80 300; 1.001 0.999 1.003 130 200; 1.09 1.08 1.10 81 400", "GPTQ 4 bit, group 128", "GPTQ 4 bit, group 128", "GPTQ 4 bit, group 128")]
    [InlineData("1.01 1.001 1.019 80 300; 1.0 0.999 1.001 130 200; 1.015 1.005 1.019 81 400", "RTN 8 bit, group 64", "GPTQ 4 bit, group 128", "NF4 + double quantization")]
    public void TheChoiceFollowsFromTheNumbers(string measured, string quality, string size, string speed)
    {
        Recommender recommender = Recommender.Of(Ample with { Seconds = Recommender.Of(Ample, long.MaxValue).Plan!.Cells.Take(4).Sum(cell => cell.Estimate.Seconds) + 0.5 }, long.MaxValue);
        double[][] numbers = [[1, 1, 1, 200, 250], .. measured.Split("; ").Select(row => row.Split(' ').Select(text => double.Parse(text, System.Globalization.CultureInfo.InvariantCulture)).ToArray())];
        Recommendation found = recommender.Choose(Results(recommender.Plan!, numbers));
        Assert.Equal((quality, size, speed), (found.Choices[Preference.Quality].Method.Label, found.Choices[Preference.Size].Method.Label, found.Choices[Preference.Speed].Method.Label));
        Assert.Equal(quality, found.Chosen!.Method.Label);
    }

    [Fact]
    public void WhatDoesNotFitAsMeasuredIsNotChosen()
    {
        Recommender recommender = Recommender.Of(Ample with { MemoryBytes = 130_000_000, Seconds = 0.01 }, long.MaxValue);
        // Its weights are larger in memory than was estimated.
        Recommendation found = recommender.Choose(Results(recommender.Plan!, [[1, 1, 1, 200, 250], [1, 1, 1, 200, 250]]));
        Assert.Null(found.Chosen);
    }

    [Fact]
    public void TheCommandWritesTheForm()
    {
        Recommendation found = Recommender.Of(Ample, long.MaxValue).Choose(null);
        Assert.Empty(found.Candidates.Single(candidate => candidate.Method.IsBaseline).Quantize);
        Assert.Equal("quantize", found.Candidates.Single(candidate => candidate.Method.Label == "LLM.int8").Quantize[0]);
        IReadOnlyList<string> gptq = found.Candidates.Single(candidate => candidate.Method.Label == "GPTQ 4 bit, group 128").Quantize;
        Assert.Contains("--data=demo", gptq);
        Assert.Contains("--group-size=128", gptq);
    }

    [Fact]
    public void RequestsThatMakeNoSenseAreRefused()
    {
        foreach (RecommendRequest request in new[] { Ample with { MemoryBytes = 0 }, Ample with { Context = 0 }, Ample with { Batch = 0 }, Ample with { Limit = 5 }, Ample with { MaxLoss = 0.5 }, Ample with { Seconds = double.NaN } })
        {
            Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Recommender.Of(request, 1)).Kind);
        }

        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => Recommender.Of(Ample with { Model = "nowhere" }, 1)).Kind);
    }

    private static long Total(Recommender recommender, string label) => recommender.Choose(null).Candidates.Single(candidate => candidate.Method.Label == label).Memory.TotalBytes;

    private static StudyResults Results(StudyPlan plan, double[][] numbers)
    {
        ResultDocument sample = ReportTests.Sample().Cells[0];
        return new StudyResults(1, "x", null, true, [.. plan.Cells.Zip(numbers, (cell, row) => sample with
        {
            Key = cell.Key,
            Label = cell.Method.Label,
            Metrics = new Dictionary<string, double> { ["perplexity_ratio"] = row[0], ["weight_bytes"] = row[3] * 1e6, ["decode_tokens_per_second"] = row[4] },
            Intervals = new Dictionary<string, double[]> { ["perplexity_ratio"] = [row[1], row[2]] },
        })], []);
    }
}
