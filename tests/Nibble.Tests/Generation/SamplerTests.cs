using Nibble.Generation;
using Nibble.IO;

namespace Nibble.Tests.Generation;

public class SamplerTests
{
    private static readonly float[] Logits = [1, 3, 2, -1, 0.5f, 2.5f, -3, 0, 1.5f, 3];

    [Fact]
    public void GreedyTakesTheFirstOfTheLargest() => Assert.Equal(1, new Sampler(new GenerationOptions(), 10).Next(Logits, [], 0));

    [Fact]
    public void DrawsFollowTheSoftmax()
    {
        const int draws = 20_000;
        int[] counts = Draw(new GenerationOptions { Temperature = 1 }, draws);
        double sum = Logits.Sum(logit => Math.Exp(logit));
        for (int id = 0; id < Logits.Length; id++)
        {
            double p = Math.Exp(Logits[id]) / sum;
            Assert.InRange(counts[id], (draws * p) - (5 * Math.Sqrt(draws * p)) - 5, (draws * p) + (5 * Math.Sqrt(draws * p)) + 5);
        }
    }

    [Fact]
    public void TopKKeepsExactlyKEvenAmongEquals()
    {
        int[] counts = Draw(new GenerationOptions { Temperature = 1, TopK = 1 }, 200);
        Assert.Equal(200, counts[1]);
        counts = Draw(new GenerationOptions { Temperature = 1, TopK = 3 }, 2000);
        Assert.Equal([1, 5, 9], Enumerable.Range(0, 10).Where(id => counts[id] > 0));
    }

    [Fact]
    public void TopPKeepsTheSmallestNucleus()
    {
        // Shares of the largest: e^0 e^0 e^-0.5 e^-1 …: the first two make up more than half.
        int[] counts = Draw(new GenerationOptions { Temperature = 1, TopP = 0.5 }, 2000);
        Assert.Equal([1, 9], Enumerable.Range(0, 10).Where(id => counts[id] > 0));
        counts = Draw(new GenerationOptions { Temperature = 1, TopP = 1e-9 }, 100);
        Assert.Equal(100, counts[1]);
    }

    /// <summary>Shares of the largest at the temperature: 1, 1, e^-0.5 = 0.61, e^-1 = 0.37, e^-1.5 = 0.22 …; at temperature 2 their roots: 0.78, 0.61, 0.47.</summary>
    [Theory]
    [InlineData(1, 0.5, 0, 1, new[] { 1, 5, 9 })]
    [InlineData(1, 0.37, 0, 1, new[] { 1, 5, 9 })]
    [InlineData(1, 0.36, 0, 1, new[] { 1, 2, 5, 9 })]
    [InlineData(2, 0.5, 0, 1, new[] { 1, 2, 5, 9 })]
    [InlineData(1, 1, 0, 1, new[] { 1, 9 })]
    [InlineData(1, 0.36, 3, 1, new[] { 1, 5, 9 })]
    [InlineData(1, 0.36, 0, 0.5, new[] { 1, 9 })]
    [InlineData(1, 0.5, 8, 0.99, new[] { 1, 5, 9 })]
    public void MinPKeepsWhatIsNearTheLargestAfterTheOtherCuts(double temperature, double minP, int topK, double topP, int[] kept)
    {
        GenerationOptions options = new() { Temperature = temperature, MinP = minP, TopK = topK, TopP = topP };
        int[] counts = Draw(options, 3000);
        Assert.Equal(kept, Enumerable.Range(0, 10).Where(id => counts[id] > 0));
        double sum = kept.Sum(id => Math.Exp(Logits[id] / temperature));
        Assert.All(kept, id => Assert.InRange(counts[id], (3000 * Math.Exp(Logits[id] / temperature) / sum) - 200, (3000 * Math.Exp(Logits[id] / temperature) / sum) + 200));
    }

    [Fact]
    public void TemperatureSharpens()
    {
        int[] warm = Draw(new GenerationOptions { Temperature = 2 }, 2000), cold = Draw(new GenerationOptions { Temperature = 0.1 }, 2000);
        Assert.True(cold[1] + cold[9] > 1950);
        Assert.True(warm[1] + warm[9] < 1200);
    }

    /// <summary>1/temperature is beyond F32's range here.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(0.5)]
    public void TheSmallestTemperatureIsGreedy(double topP) =>
        Assert.Equal(200, Draw(new GenerationOptions { Temperature = double.Epsilon, TopP = topP }, 200).Where((_, id) => id is 1 or 9).Sum());

    [Fact]
    public void RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits()
    {
        Sampler sampler = new(new GenerationOptions { RepetitionPenalty = 2 }, 3);
        Assert.Equal(1, sampler.Next([4, 2.5f, -1], [0], 0));
        Assert.Equal(2, sampler.Next([-2, -2, -1.5f], [1], 0));
        Assert.Equal(0, sampler.Next([-2, -4, -1.5f], [2], 0));
    }

    /// <summary>OpenAI's formula: logit − presence (if it came) − frequency · times, plus its bias; the prompt's tokens do not count.</summary>
    [Fact]
    public void PenaltiesAndBiasesAreAdded()
    {
        Dictionary<int, int> generated = new() { [0] = 3, [1] = 1 };
        float[] logits = [5, 4, 3.2f];
        Assert.Equal(0, new Sampler(new GenerationOptions(), 3).Next(logits, [], 0, generated));
        Assert.Equal(2, new Sampler(new GenerationOptions { PresencePenalty = 2 }, 3).Next(logits, [], 0, generated));
        Assert.Equal(1, new Sampler(new GenerationOptions { FrequencyPenalty = 0.7 }, 3).Next(logits, [], 0, generated));
        Assert.Equal(2, new Sampler(new GenerationOptions { LogitBias = new Dictionary<int, float> { [2] = 2 } }, 3).Next(logits, [], 0));
        Assert.Equal(1, new Sampler(new GenerationOptions { LogitBias = new Dictionary<int, float> { [0] = -100 } }, 3).Next(logits, [], 0));
        Assert.Equal([5, 4, 3.2f], logits);
    }

    [Fact]
    public void ScoresAreLogProbabilitiesOfTheModel()
    {
        TokenScores scores = TokenScores.Of(Logits, 2, 3);
        double log = Math.Log(Logits.Sum(logit => Math.Exp(logit)));
        Assert.Equal(2 - log, scores.LogProbability, 12);
        Assert.Equal([1, 9, 5], scores.Top.Select(item => item.Token));
        Assert.Equal(2.5 - log, scores.Top[2].LogProbability, 12);
        Assert.Empty(TokenScores.Of(Logits, 2, 0).Top);
        Assert.Equal(Logits.Length, TokenScores.Of(Logits, 2, 50).Top.Count);
        Assert.Equal(1, TokenScores.Of(Logits, 2, 50).Top.Sum(item => Math.Exp(item.LogProbability)), 12);
    }

    [Fact]
    public void LogitsThatAreNotFiniteAreRefused()
    {
        Sampler sampler = new(new GenerationOptions(), 3);
        Assert.Throws<NibbleException>(() => sampler.Next([1, float.NaN, 2], [], 0));
        Assert.Throws<NibbleException>(() => sampler.Next([float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity], [], 0));
    }

    [Theory]
    [InlineData("abcdef", new[] { "cd" }, "ab", true)]
    [InlineData("abcdef", new[] { "xyz" }, "abcdef", false)]
    [InlineData("aab", new[] { "ab" }, "a", true)]
    [InlineData("one\ntwo\n\nthree", new[] { "\n\n", "three" }, "one\ntwo", true)]
    [InlineData("ends with be", new[] { "begin" }, "ends with be", false)]
    public void StopTextsAreFoundAcrossPieces(string text, string[] stops, string expected, bool stopped)
    {
        for (int size = 1; size <= text.Length; size++)
        {
            StopStrings stop = new(stops);
            string result = string.Concat(text.Chunk(size).Select(piece => stop.Add(new string(piece)))) + stop.Flush();
            Assert.Equal(expected, result);
            Assert.Equal(stopped, stop.Stopped);
        }
    }

    private static int[] Draw(GenerationOptions options, int draws)
    {
        Sampler sampler = new(options, Logits.Length);
        int[] counts = new int[Logits.Length];
        for (int i = 0; i < draws; i++)
        {
            counts[sampler.Next(Logits, [], i)]++;
        }

        return counts;
    }
}
