using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Label scores of a classifier: its head on the last real position of each row, as transformers pools.</summary>
public static class SequenceClassifier
{
    /// <summary>Scores <c>[rows][labels]</c> of rows of tokens, in one padded pass.</summary>
    public static float[][] Scores(CausalModel model, IReadOnlyList<int[]> rows)
    {
        int labels = model.Facts.Labels;
        if (labels == 0)
        {
            Throw.Usage($"this {model.Facts.ModelType} is no classifier", "its config names no …ForSequenceClassification", "use a model with a classification head");
        }

        using TokenBatch batch = TokenBatch.PadRight(model, rows);
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, rows.Count, batch.Input.Length);
        Tensor hidden = model.Forward(batch.Input, cache, workspace);
        Tensor scores = workspace.Rent(new Shape(rows.Count, labels));
        for (int row = 0; row < rows.Count; row++)
        {
            model.Logits(hidden.Slice((row * batch.Input.Length) + rows[row].Length - 1, 1), scores.Slice(row, 1));
        }

        float[] values = new float[rows.Count * labels];
        model.Backend.Read<float>(scores, values);
        return [.. values.Chunk(labels)];
    }
}
