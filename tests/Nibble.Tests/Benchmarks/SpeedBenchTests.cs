using Nibble.Benchmarks;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Tests.Benchmarks;

/// <summary>What nibble bench measures is complete and consistent; how fast it is, is no matter of tests.</summary>
public class SpeedBenchTests
{
    [Fact]
    public void EveryMethodAndNumberOfThreadsIsACell()
    {
        SpeedOptions options = new()
        {
            Shapes = "gpt2-10m", Methods = [null, new PlanRequest(new QuantizationSettings { Method = "rtn" })], Threads = [1, 2],
            Prompt = 3, Tokens = 2, Depth = 5, Rounds = 2, Load = new LoadOptions { Activations = ActivationChoice.Auto },
        };
        IReadOnlyList<ResultDocument> cells = SpeedBench.Run(options);
        Assert.Equal([("none", 1), ("none", 2), ("rtn", 1), ("rtn", 2)], cells.Select(cell => (cell.Method, cell.Threads)));
        Assert.All(cells, cell =>
        {
            Assert.Equal("speed", cell.Task);
            foreach (string metric in new[] { "prefill_tokens_per_second", "decode_tokens_per_second", "decode_read_share", "ttft_ms", "weight_bytes", "bytes_per_token" })
            {
                Assert.True(cell.Metrics[metric] > 0, metric);
            }

            Assert.DoesNotContain(cell.Metrics.Keys, name => name.Contains("peer", StringComparison.Ordinal));
            double[] interval = cell.Intervals["decode_tokens_per_second"];
            Assert.InRange(cell.Metrics["decode_tokens_per_second"], interval[0], interval[1]);
        });
        Assert.True(cells[2].Metrics["weight_bytes"] < cells[0].Metrics["weight_bytes"]);
    }

    [Theory]
    [InlineData(0, 0, 0, 1)]
    [InlineData(-1, 1, 0, 1)]
    [InlineData(513, 1, 0, 1)]
    [InlineData(1, 13, 500, 1)]
    [InlineData(1, 1, int.MaxValue, 1)]
    [InlineData(1, 1, 0, 0)]
    public void WhatMakesNoSenseIsRefused(int prompt, int tokens, int depth, int rounds)
    {
        SpeedOptions options = new() { Prompt = prompt, Tokens = tokens, Depth = depth, Rounds = rounds };
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => options.Require(512)).Kind);
    }

    [Fact]
    public void ACardIsRefused() => Assert.Equal(
        ErrorKind.Usage,
        Assert.Throws<NibbleException>(() => SpeedBench.Run(new SpeedOptions { Model = "none", Load = new LoadOptions { Device = "cuda" } })).Kind);

    [Fact]
    public void TheSpreadIsThatOfASample()
    {
        Assert.Equal(2, SpeedRounds.StandardDeviation([1, 3, 5]), 12);
        Assert.Equal(double.NaN, SpeedRounds.StandardDeviation([1]));
    }

    [Fact]
    public void ThePeersAnswerIsRead()
    {
        Assert.Equal(41.25, LlamaBench.Rate("""[{"n_prompt": 0, "n_gen": 64, "avg_ts": 41.25, "stddev_ts": 0.0}]"""));
        foreach (string odd in new[] { "", "[]", "{}", "[1]", """[{"n_gen": 64}]""" })
        {
            Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => LlamaBench.Rate(odd)).Kind);
        }
    }

    [Fact]
    public void EveryShapeIsAModelThatCanBeBuilt() =>
        Assert.All(ModelShapes.Names, name => Assert.True(ModelSizes.Of(ModelShapes.Config(name)).Parameters.Total > 1_000_000));
}
