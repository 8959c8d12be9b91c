using Nibble.Backends.Cpu;
using Nibble.Models;

namespace Nibble.Tests.Models;

/// <summary>Every member of every family against reference logits, and against itself run in other ways.</summary>
public class GoldenModelTests
{
    private const double Tolerance = 1e-5;

    /// <summary>The same sums in another order: rounding only.</summary>
    private const double Rounding = 1e-5;

    public static TheoryData<string> Names => GoldenModel.Names;

    public static TheoryData<string, string> NamesAndKernels
    {
        get
        {
            TheoryData<string, string> pairs = [];
            foreach (string kernels in CpuVariant.Compiled.Select(variant => variant.Name))
            {
                foreach (string name in GoldenModel.Names)
                {
                    pairs.Add(name, kernels);
                }
            }

            return pairs;
        }
    }

    [Theory]
    [MemberData(nameof(NamesAndKernels))]
    public void LogitsEqualTheReference(string name, string kernels)
    {
        // A variant that this processor lacks computes in software: slow, but these models are tiny.
        using CpuBackend backend = new(CpuVariant.All.Single(variant => variant.Name == kernels), 2);
        using GoldenModel golden = new(name, backend);
        Assert.NotEmpty(golden.Runs);
        foreach (GoldenRun run in golden.Runs)
        {
            float[][] expected = [.. run.Logits.EnumerateArray().SelectMany(row => golden.Model.Facts.Labels > 0 ? [GoldenRun.Floats(row)] : row.EnumerateArray().Select(GoldenRun.Floats))];
            float[][] actual = golden.Model.Facts.Labels > 0
                ? SequenceClassifier.Scores(golden.Model, run.Rows)
                : [.. ModelRun.Batched(golden.Model, run.Rows, left: run.Name == "padded-left").SelectMany(row => row)];
            double error = ModelRun.Error(actual, expected);
            Assert.True(error < Tolerance, $"{name}, {run.Name}, {kernels}: off by {error:E2} of the range");
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void CachedBatchedAndPaddedRunsAgree(string name)
    {
        using GoldenModel golden = new(name);
        int[][] rows = golden.Runs[0].Rows;
        foreach (bool left in new[] { true, false })
        {
            float[][][] batched = ModelRun.Batched(golden.Model, rows, left);
            for (int r = 0; r < rows.Length; r++)
            {
                float[][] single = ModelRun.Whole(golden.Model, rows[r]);
                Assert.InRange(ModelRun.Error(batched[r], single), 0, Rounding);
                Assert.InRange(ModelRun.Error(ModelRun.Cached(golden.Model, rows[r], step: 1), single), 0, Rounding);
                Assert.InRange(ModelRun.Error(ModelRun.Cached(golden.Model, rows[r], step: 3), single), 0, Rounding);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void LogLikelihoodsEqualThoseOfTheLogits(string name)
    {
        using GoldenModel golden = new(name);
        if (golden.Model.Facts.Labels > 0)
        {
            return;
        }

        int[] row = golden.Runs[^1].Rows[0];
        float[] actual = ModelRun.LogLikelihoods(golden.Model, row);
        float[][] logits = ModelRun.Whole(golden.Model, row);
        for (int i = 0; i + 1 < row.Length; i++)
        {
            double largest = logits[i].Max();
            double expected = logits[i][row[i + 1]] - largest - Math.Log(logits[i].Sum(value => Math.Exp(value - largest)));
            Assert.Equal(expected, actual[i], 1e-4);
        }
    }
}
