using Nibble.Backends;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Logits of two forms of a model over the same few tokens.</summary>
internal static class LogitPairs
{
    private static readonly int[] Ids = [1, 5, 9, 2, 7, 3, 8, 4, 6, 1, 2];

    /// <summary>Fails unless both give the same bits.</summary>
    public static void AssertEqual(string one, PlanRequest? oneRequest, string other, PlanRequest? otherRequest)
    {
        float[] first = Of(one, oneRequest), second = Of(other, otherRequest);
        Assert.Equal(Array.ConvertAll(first, BitConverter.SingleToInt32Bits), Array.ConvertAll(second, BitConverter.SingleToInt32Bits));
    }

    /// <summary>The logits of every token.</summary>
    public static float[] Of(string path, PlanRequest? request = null, int[]? ids = null)
    {
        ids ??= Ids;
        using LoadedModel loaded = LoadedModel.Load(path, new LoadOptions { Quantization = request });
        return Of(loaded.Model, ids);
    }

    /// <summary>The same of a model in memory.</summary>
    public static float[] Of(CausalModel model, int[] ids)
    {
        using TokenBatch batch = TokenBatch.PadRight(model, [ids]);
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, 1, ids.Length);
        Tensor hidden = model.Forward(batch.Input, cache, workspace);
        Tensor logits = workspace.Rent(new Shape(ids.Length, model.Facts.Vocabulary));
        model.Logits(hidden, logits);
        float[] values = new float[logits.Shape.Count];
        model.Backend.Read(logits, values);
        return values;
    }
}
