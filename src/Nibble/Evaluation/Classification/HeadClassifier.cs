using Nibble.Models;
using Nibble.Tokenization;

namespace Nibble.Evaluation.Classification;

/// <summary>
/// Classes by a sequence-classification head: the largest of a text's scores (<see cref="SequenceClassifier"/>). Texts of about the
/// same length share a pass, so that little is padded.
/// </summary>
internal sealed class HeadClassifier(CausalModel model, Tokenizer tokenizer)
{
    private const int TokensPerPass = 1024;

    /// <summary>Texts that were longer than the model's context, and were cut at its end.</summary>
    public int Truncated { get; private set; }

    /// <summary>The class of each text.</summary>
    public int[] Predict(IReadOnlyList<string> texts, Action<double>? progress, CancellationToken cancellation)
    {
        int[][] ids = [.. texts.Select(Encode)];
        int[] order = [.. Enumerable.Range(0, ids.Length).OrderBy(i => ids[i].Length).ThenBy(i => i)];
        int[] predicted = new int[ids.Length];
        for (int start = 0; start < order.Length;)
        {
            cancellation.ThrowIfCancellationRequested();
            int count = PassSize(ids, order, start);
            int[] rows = order[start..(start + count)];
            float[][] scores = SequenceClassifier.Scores(model, [.. rows.Select(row => ids[row])]);
            for (int i = 0; i < count; i++)
            {
                predicted[rows[i]] = Array.IndexOf(scores[i], scores[i].Max());
            }

            start += count;
            progress?.Invoke((double)start / order.Length);
        }

        return predicted;
    }

    private int[] Encode(string text)
    {
        int[] ids = tokenizer.Encode(text);
        if (ids.Length > model.Facts.Context)
        {
            Truncated++;
            return ids[..model.Facts.Context];
        }

        // An empty text still has a last position to look at.
        return ids.Length > 0 ? ids : [tokenizer.EosId ?? 0];
    }

    // Rows are sorted by length: the last one of a pass is the longest.
    private static int PassSize(int[][] ids, int[] order, int start)
    {
        int count = 1;
        while (start + count < order.Length && ids[order[start + count]].Length * (count + 1) <= TokensPerPass)
        {
            count++;
        }

        return count;
    }
}
