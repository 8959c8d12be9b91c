using Nibble.Backends;
using Nibble.Data;
using Nibble.Evaluation;
using Nibble.Evaluation.Classification;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>What a model is worth on held-out rows.</summary>
/// <param name="Step">Steps of the training before it.</param>
/// <param name="Loss">Mean −log p of the scored tokens, or of the right labels.</param>
/// <param name="Accuracy">Share of rows with the right label; null for language models.</param>
/// <param name="MacroF1">Mean F1 of the labels; null for language models.</param>
public sealed record EvaluationReport(int Step, double Loss, double? Accuracy = null, double? MacroF1 = null);

/// <summary>Mean −log p of held-out rows, with the model as it stands.</summary>
internal static class HeldOut
{
    /// <summary>Rows of one pass.</summary>
    internal const int RowsPerPass = 8;

    /// <summary>Measures a language model or a classifier.</summary>
    public static EvaluationReport Measure(CausalModel model, TrainingSet data, int step, CancellationToken cancellation = default)
    {
        if (model.Facts.Labels == 0)
        {
            return new EvaluationReport(step, Nll(model, data, cancellation));
        }

        List<int> truth = [], predicted = [];
        double loss = 0;
        foreach (TrainingRow[] rows in data.Rows.OrderBy(row => row.Ids.Length).Chunk(RowsPerPass))
        {
            cancellation.ThrowIfCancellationRequested();
            float[][] scores = SequenceClassifier.Scores(model, [.. rows.Select(row => row.Ids)]);
            for (int i = 0; i < rows.Length; i++)
            {
                truth.Add(rows[i].Targets[^1]);
                predicted.Add(Array.IndexOf(scores[i], scores[i].Max()));
                loss += Math.Log(scores[i].Sum(score => Math.Exp(score - scores[i].Max()))) + scores[i].Max() - scores[i][truth[^1]];
            }
        }

        ConfusionMatrix matrix = new([.. truth], [.. predicted], model.Facts.Labels);
        return new EvaluationReport(step, loss / truth.Count, matrix.Accuracy, matrix.MacroF1);
    }

    public static double Nll(CausalModel model, TrainingSet data, CancellationToken cancellation = default) =>
        Losses(model, data, null, cancellation).Sum(loss => (double)loss) / data.ScoredTokens;

    /// <summary>−log p of every scored position, rows from the shortest to the longest; <paramref name="visitor"/> sees their hidden states.</summary>
    public static float[] Losses(CausalModel model, TrainingSet data, IScoredRows? visitor, CancellationToken cancellation = default)
    {
        using Workspace workspace = new(model.Backend);
        List<float> losses = [];
        foreach (TrainingRow[] rows in data.Rows.OrderBy(row => row.Ids.Length).Chunk(RowsPerPass))
        {
            cancellation.ThrowIfCancellationRequested();
            Batch(model, Batcher.Pad(rows), workspace, visitor, losses);
        }

        return [.. losses];
    }

    private static void Batch(CausalModel model, TrainingBatch batch, Workspace workspace, IScoredRows? visitor, List<float> losses)
    {
        using Workspace.Scope scope = workspace.Begin();
        using KvCache cache = new(model, batch.Batch, batch.Length);
        IBackend backend = model.Backend;
        Tensor Upload(int[] values)
        {
            Tensor tensor = workspace.Rent(new Shape(values.Length), DType.I32);
            backend.Write<int>(values, tensor);
            return tensor;
        }

        int first = model.Virtual?.Count ?? 0;
        Tensor positions = Upload([.. Enumerable.Range(0, batch.Ids.Length).Select(i => first + (i % batch.Length))]);
        Tensor hidden = model.Forward(new ModelInput(Upload(batch.Ids), positions, batch.Batch, batch.Length), cache, workspace);
        Tensor scores = workspace.Rent(new Shape(batch.Ids.Length));
        model.LogLikelihood(hidden, Upload(batch.Targets), scores, null, workspace);
        float[] values = new float[batch.Ids.Length];
        backend.Read<float>(scores, values);
        foreach ((int start, int end) in Runs(batch.Targets))
        {
            visitor?.Visit(model, hidden.Slice(start, end - start), losses.Count, workspace);
            losses.AddRange(values[start..end].Select(value => -value));
        }
    }

    /// <summary>The stretches of scored positions.</summary>
    private static IEnumerable<(int Start, int End)> Runs(int[] targets)
    {
        for (int start = 0; start < targets.Length; start++)
        {
            int end = start;
            while (end < targets.Length && targets[end] >= 0)
            {
                end++;
            }

            if (end > start)
            {
                yield return (start, end);
                start = end;
            }
        }
    }
}
