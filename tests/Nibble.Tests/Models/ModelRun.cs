using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tests.Models;

/// <summary>Logits of a model in the ways in which it can be run.</summary>
internal static class ModelRun
{
    /// <summary>Logits of every real position of each row, from one padded pass.</summary>
    public static float[][][] Batched(CausalModel model, int[][] rows, bool left)
    {
        using TokenBatch batch = left ? TokenBatch.PadLeft(model, rows) : TokenBatch.PadRight(model, rows);
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, rows.Length, batch.Input.Length);
        float[][] all = Rows(model, model.Forward(batch.Input, cache, workspace));
        return [.. rows.Select((row, r) => all.Skip((r * batch.Input.Length) + batch.Starts[r]).Take(row.Length).ToArray())];
    }

    /// <summary>Logits of every position of one row, in one pass.</summary>
    public static float[][] Whole(CausalModel model, int[] row) => Batched(model, [row], left: false)[0];

    /// <summary>Logits of every position of one row, in passes of some tokens over a growing cache.</summary>
    public static float[][] Cached(CausalModel model, int[] row, int step)
    {
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, 1, row.Length);
        List<float[]> logits = [];
        foreach (int[] part in row.Chunk(step))
        {
            using Workspace.Scope scope = workspace.Begin();
            using Tensor ids = TokenBatch.Upload(model.Backend, part);
            using Tensor positions = TokenBatch.Upload(model.Backend, [.. Enumerable.Range(cache.Length, part.Length)]);
            logits.AddRange(Rows(model, model.Forward(new ModelInput(ids, positions, 1, part.Length), cache, workspace)));
        }

        return [.. logits];
    }

    /// <summary>log p of each token but the first.</summary>
    public static float[] LogLikelihoods(CausalModel model, int[] row)
    {
        using TokenBatch batch = TokenBatch.PadRight(model, [row]);
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, 1, row.Length);
        Tensor hidden = model.Forward(batch.Input, cache, workspace);
        using Tensor targets = Tensor.From<int>(new Shape(row.Length), DType.I32, [.. row[1..], -1]);
        using Tensor scores = Tensor.OnHost(targets.Shape, DType.F32);
        model.LogLikelihood(hidden, targets, scores, null, workspace);
        return scores.HostSpan<float>()[..^1].ToArray();
    }

    /// <summary>The largest difference as a share of the range of the expected values.</summary>
    public static double Error(IEnumerable<float[]> actual, IEnumerable<float[]> expected)
    {
        float[] a = [.. actual.SelectMany(row => row)], e = [.. expected.SelectMany(row => row)];
        Assert.Equal(e.Length, a.Length);
        Assert.All(a, value => Assert.True(float.IsFinite(value)));
        return a.Zip(e, (x, y) => Math.Abs((double)x - y)).Max() / ((double)e.Max() - e.Min());
    }

    private static float[][] Rows(CausalModel model, Tensor hidden)
    {
        int columns = model.Facts.Labels > 0 ? model.Facts.Labels : model.Facts.Vocabulary;
        using Tensor logits = model.Backend.Allocate(new Shape(hidden.Shape[0], columns), DType.F32);
        model.Logits(hidden, logits);
        float[] values = new float[logits.Shape.Count];
        model.Backend.Read<float>(logits, values);
        return [.. values.Chunk(columns)];
    }
}
