using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Tasks;

namespace Nibble.Tests.Evaluation;

public class BlockBootstrapTests
{
    private static float[] Noise(int count, ulong seed)
    {
        SplitMix random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(1000) / 1000f)];
    }

    [Fact]
    public void The_seed_alone_decides()
    {
        float[] values = Noise(5000, 1);
        Assert.Equal(new BlockBootstrap(7).Mean(values), new BlockBootstrap(7).Mean(values));
        Assert.NotEqual(new BlockBootstrap(7).Mean(values), new BlockBootstrap(8).Mean(values));
    }

    [Fact]
    public void Equal_values_have_no_spread()
    {
        (double low, double high) = new BlockBootstrap(1).Mean(Enumerable.Repeat(2.5f, 777).ToArray());
        Assert.Equal(2.5, low, 12);
        Assert.Equal(2.5, high, 12);
    }

    [Fact]
    public void Independent_values_give_the_textbook_interval()
    {
        // Uniform on [0, 1]: standard error = sqrt(1/12 / n); the interval reaches 1.96 of it to both sides.
        float[] values = Noise(20_000, 3);
        (double low, double high) = new BlockBootstrap(5).Mean(values);
        double expected = 2 * 1.96 * Math.Sqrt(1.0 / 12 / values.Length);
        Assert.InRange(high - low, 0.8 * expected, 1.2 * expected);
        Assert.InRange(values.Average(value => (double)value), low, high);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(100)]
    [InlineData(256)]
    [InlineData(500)]
    public void A_short_text_is_uncertain_too(int count)
    {
        float[] values = Noise(count, 3);
        (double low, double high) = new BlockBootstrap(5).Mean(values);
        double expected = 2 * 1.96 * Math.Sqrt(1.0 / 12 / count);
        Assert.InRange(high - low, 0.4 * expected, 1.4 * expected);
    }

    [Fact]
    public void Values_that_come_in_runs_widen_the_interval()
    {
        float[] runs = [.. Noise(200, 3).SelectMany(value => Enumerable.Repeat(value, 100))];
        (double low, double high) = new BlockBootstrap(5).Mean(runs);
        double independent = 2 * 1.96 * Math.Sqrt(1.0 / 12 / runs.Length);
        Assert.True(high - low > 5 * independent);
    }

    [Fact]
    public void Paired_differences_are_far_more_certain_than_either_side()
    {
        float[] baseline = Noise(20_000, 3);
        float[] worse = [.. baseline.Select(value => value + 0.01f)];
        (double low, double high) = new BlockBootstrap(5).MeanDifference(worse, baseline);
        Assert.InRange(low, 0.0099, 0.0101);
        Assert.InRange(high, 0.0099, 0.0101);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(0.5, 3)]
    [InlineData(0.25, 2)]
    [InlineData(0.625, 3.5)]
    [InlineData(1, 5)]
    public void Percentiles_are_interpolated(double share, double expected) => Assert.Equal(expected, BlockBootstrap.Percentile([1, 2, 3, 4, 5], share), 12);

    [Fact]
    public void Perplexity_of_a_worked_example()
    {
        // Four tokens of probability ½, ¼, ⅛, ¼: mean −log₂ p = 2 bits, so perplexity 4; over 16 bytes 8 bits are ½ bit a byte.
        float[] losses = [.. new[] { 0.5, 0.25, 0.125, 0.25 }.Select(p => (float)-Math.Log(p))];
        ResultBuilder result = new();
        PerplexityTask.AddLosses(result, losses, 16, new BlockBootstrap(1));
        Assert.Equal(4, result.Metrics["perplexity"], 5);
        Assert.Equal(Math.Log(4), result.Metrics["nll"], 6);
        Assert.Equal(0.5, result.Metrics["bits_per_byte"], 6);
        Assert.Equal(4, result.Metrics["scored_tokens"]);
        Assert.Equal(2, result.Intervals["perplexity"].Length);
    }
}
