using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Evaluation.Classification;

/// <summary>
/// Classes by asking a language model: a prompt with the text, a few tokens of greedy answer, and the first label that is named in
/// it. An answer that names none is <see cref="ConfusionMatrix.Unparsed"/>: it counts as wrong and is reported.
/// </summary>
internal sealed class ZeroShotClassifier(LoadedModel model, string template, IReadOnlyList<string> labels)
{
    /// <summary>What stands for the text in a template.</summary>
    public const string Placeholder = "{text}";

    private const int RowsPerPass = 16;
    private readonly GenerationOptions _options = new() { MaxTokens = 5 };

    /// <summary>The prompt when none is given: the one of the LLaMA-2 study, with the labels in place of its three.</summary>
    public static string DefaultTemplate(IReadOnlyList<string> labels) =>
        $"Classify the sentiment of the text as {string.Join(", ", labels.SkipLast(1))} or {labels[^1]}.\nText: {Placeholder}\nSentiment:";

    /// <summary>The class of each text, or <see cref="ConfusionMatrix.Unparsed"/>.</summary>
    public int[] Predict(IReadOnlyList<string> texts, Action<double>? progress, CancellationToken cancellation)
    {
        if (!template.Contains(Placeholder, StringComparison.Ordinal))
        {
            Throw.Usage($"the prompt template has no {Placeholder}", "without it every text gets the same prompt", $"write {Placeholder} where the text belongs");
        }

        int[][] prompts = [.. texts.Select(text => Fit(template.Replace(Placeholder, text, StringComparison.Ordinal)))];
        int[] predicted = new int[texts.Count];
        int done = 0;
        foreach (int[] rows in Enumerable.Range(0, texts.Count).OrderBy(i => prompts[i].Length).Chunk(RowsPerPass))
        {
            cancellation.ThrowIfCancellationRequested();
            using Generator generator = new(model.Model, model.Tokenizer, model.EosIds, [.. rows.Select(row => prompts[row])], _options with { Cancellation = cancellation });
            foreach (GenerationStep step in generator.Run())
            {
                _ = step;
            }

            for (int i = 0; i < rows.Length; i++)
            {
                predicted[rows[i]] = Parse(generator.Results[i].Text, labels);
            }

            done += rows.Length;
            progress?.Invoke((double)done / texts.Count);
        }

        return predicted;
    }

    /// <summary>The label that an answer names first, as a whole word, in any case.</summary>
    public static int Parse(string answer, IReadOnlyList<string> labels)
    {
        int best = ConfusionMatrix.Unparsed, at = int.MaxValue;
        for (int label = 0; label < labels.Count; label++)
        {
            int place = WordAt(answer, labels[label]);
            if (place >= 0 && place < at)
            {
                (best, at) = (label, place);
            }
        }

        return best;
    }

    private static int WordAt(string answer, string word)
    {
        for (int place = answer.IndexOf(word, StringComparison.OrdinalIgnoreCase); place >= 0; place = answer.IndexOf(word, place + 1, StringComparison.OrdinalIgnoreCase))
        {
            int end = place + word.Length;
            if ((place == 0 || !char.IsLetterOrDigit(answer[place - 1])) && (end == answer.Length || !char.IsLetterOrDigit(answer[end])))
            {
                return place;
            }
        }

        return -1;
    }

    // The answer needs room: what does not fit is cut from the front of the prompt, so that the question at its end stays.
    private int[] Fit(string prompt)
    {
        int[] ids = model.Tokenizer.Encode(prompt);
        int room = model.Facts.Context - _options.MaxTokens;
        return ids.Length <= room ? ids : ids[^room..];
    }
}
