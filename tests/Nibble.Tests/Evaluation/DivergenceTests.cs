using Nibble.Evaluation.Metrics;

namespace Nibble.Tests.Evaluation;

public class DivergenceTests
{
    [Fact]
    public void Worked_example()
    {
        // P = (½, ¼, ¼), Q = (¼, ¼, ½): ½·ln 2 + 0 + ¼·ln ½ = ¼·ln 2.
        float[] p = [MathF.Log(0.5f), MathF.Log(0.25f), MathF.Log(0.25f)];
        float[] q = [MathF.Log(0.25f), MathF.Log(0.25f), MathF.Log(0.5f)];
        Assert.Equal(0.25 * Math.Log(2), Divergence.Kl(p, q), 6);
        Assert.Equal(0, Divergence.Kl(p, p), 7);
    }

    [Theory]
    [InlineData(8)]
    [InlineData(19)]
    [InlineData(1000)]
    public void Vectors_and_rest_agree_with_the_definition(int count)
    {
        SplitMix random = new(11);
        float[] p = [.. Enumerable.Range(0, count).Select(_ => (random.Next(20_000) / 1000f) - 10)];
        float[] q = [.. p.Select(value => value + (random.Next(2000) / 1000f))];
        double lp = Math.Log(p.Sum(z => Math.Exp(z))), lq = Math.Log(q.Sum(z => Math.Exp(z)));
        double expected = Enumerable.Range(0, count).Sum(i => Math.Exp(p[i] - lp) * (p[i] - lp - (q[i] - lq)));
        Assert.Equal(expected, Divergence.Kl(p, q), 5);
        // A constant added to logits changes no distribution.
        Assert.Equal(expected, Divergence.Kl([.. p.Select(z => z + 30)], [.. q.Select(z => z - 7)]), 4);
    }

    [Fact]
    public void The_first_of_equal_logits_is_the_best()
    {
        float[] logits = [.. Enumerable.Repeat(-1f, 20)];
        logits[7] = logits[15] = 3;
        Assert.Equal(7, Divergence.Best(logits));
        logits[19] = 4;
        Assert.Equal(19, Divergence.Best(logits));
    }
}
