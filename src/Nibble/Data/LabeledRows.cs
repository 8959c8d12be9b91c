using System.Globalization;
using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Classification;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Data;

/// <summary>Texts with classes as rows to train a classification head on: the class is the target of a row's last token.</summary>
internal static class LabeledRows
{
    /// <summary>
    /// Reads texts with classes: files of any form with the fields <c>text</c> and <c>label</c> (a name or a number), a folder of them, of
    /// which <paramref name="split"/> is taken, or a folder of the TweetEval form (or <c>tweeteval</c>).
    /// </summary>
    /// <param name="path">The file, folder, address or name.</param>
    /// <param name="split">Which part of a folder.</param>
    /// <param name="labels">Names of the classes; null takes those of the data, in the order of the alphabet or of their numbers.</param>
    /// <param name="options">Ceilings, and whether rows that can't be used are left out.</param>
    /// <param name="skipped">How many were left out.</param>
    /// <exception cref="NibbleException">Nothing usable, or bad rows: the first few with file and line.</exception>
    public static LabeledSet Read(string path, string split, IReadOnlyList<string>? labels, DataOptions options, out int skipped)
    {
        skipped = 0;
        if (Files(path, split, options.Limits) is not { } files)
        {
            return RequireLabels(LabeledSource.Load(path, split), labels);
        }

        RowProblems problems = new();
        List<Labeled> rows = [];
        foreach (RowFile file in files)
        {
            foreach (RowRead row in file.Rows())
            {
                if ((row.Problem ?? Take(file, row, rows)) is { } problem)
                {
                    problems.Add(file, row.Place, problem);
                }
            }
        }

        labels ??= Names(rows);
        LabeledText[] known = [.. Known(rows, labels, problems)];
        problems.Settle(path, options, "expected are rows with text and label", "correct them, give all --labels, or pass --skip-bad to leave them out");
        if (known.Length == 0)
        {
            Throw.BadInput($"{path} has no rows to train on", "it is empty, or every row was left out", "give rows with text and label");
        }

        skipped = problems.Count;
        return new LabeledSet(path, labels, known, string.Empty);
    }

    /// <summary>The rows of tokens; texts longer than a row are cut and counted.</summary>
    public static TrainingSet Rows(LabeledSet set, Tokenizer tokenizer, int length, int skipped)
    {
        int truncated = 0;
        List<TrainingRow> rows = [];
        foreach (LabeledText text in set.Rows)
        {
            int[] ids = tokenizer.Encode(text.Text);
            if (ids.Length > length)
            {
                truncated++;
                ids = ids[..length];
            }

            // An empty text still has a last position to look at.
            ids = ids.Length > 0 ? ids : [tokenizer.EosId ?? 0];
            int[] targets = new int[ids.Length];
            Array.Fill(targets, -1);
            targets[^1] = text.Label;
            rows.Add(new TrainingRow(ids, targets));
        }

        return new TrainingSet(rows, rows.Count, truncated, skipped);
    }

    private static LabeledSet RequireLabels(LabeledSet set, IReadOnlyList<string>? labels)
    {
        if (labels is not null && !labels.SequenceEqual(set.Labels))
        {
            Throw.BadInput(
                $"{set.Name} has the labels {string.Join(", ", set.Labels)}", $"the head has {string.Join(", ", labels)}", "give data with the head's labels, or leave --labels out");
        }

        return set;
    }

    /// <summary>The files with rows; null for what <see cref="LabeledSource"/> reads.</summary>
    private static IReadOnlyList<RowFile>? Files(string path, string split, Limits limits)
    {
        if (!File.Exists(path) && !DataPlace.IsRemote(path) && (!Directory.Exists(path) || File.Exists(Path.Combine(path, "mapping.txt"))))
        {
            return null;
        }

        DataPlace place = DataPlace.Open(path);
        DataObject[] files = place.File is { } one ? [one] : [.. SplitFiles.Of(place.Folder!).Files(null, split == "train" ? ["train"] : ["validation", "test"])];
        RowFile[] rows = [.. files.Select(file => new RowFile(file, limits))];
        if (rows.FirstOrDefault(file => file.Form == FileForm.Text) is { } text)
        {
            Throw.BadInput($"{text.Source.Name} has no labels", "it is plain text", "give JSON lines, JSON, CSV, TSV or Parquet with text and label");
        }

        return rows;
    }

    private static string? Take(RowFile file, RowRead row, List<Labeled> rows)
    {
        IReadOnlyDictionary<string, object?> fields = row.Fields!;
        string? label = fields.GetValueOrDefault("label") switch
        {
            string name => name,
            (long or double) and { } number => Convert.ToString(number, CultureInfo.InvariantCulture),
            _ => null,
        };
        if (fields.GetValueOrDefault("text") is not string text || string.IsNullOrEmpty(label))
        {
            string what = fields.GetValueOrDefault("text") is string ? "no label (a name or a number)" : "no text";
            return $"{what}; its fields are {RowShape.Fields(fields)}";
        }

        rows.Add(new Labeled(file, row.Place, text, label));
        return null;
    }

    private static IEnumerable<LabeledText> Known(List<Labeled> rows, IReadOnlyList<string> labels, RowProblems problems)
    {
        if (labels.GroupBy(label => label).FirstOrDefault(group => group.Count() > 1) is { } twice)
        {
            Throw.Usage($"label '{twice.Key}' is named twice", "each label is one row of the head", "name it once");
        }

        Dictionary<string, int> ids = labels.Select((label, id) => (label, id)).ToDictionary(item => item.label, item => item.id);
        foreach (Labeled row in rows)
        {
            if (ids.TryGetValue(row.Label, out int id) || (IsNumber(row.Label, out id) && id < labels.Count))
            {
                yield return new LabeledText(row.Text, id);
            }
            else
            {
                problems.Add(row.File, row.Place, $"label '{row.Label}' is none of {string.Join(", ", labels)}");
            }
        }
    }

    /// <summary>The classes of the data: numbers stand for themselves, 0 to the largest.</summary>
    private static string[] Names(List<Labeled> rows)
    {
        string[] names = [.. rows.Select(row => row.Label).Distinct().Order(StringComparer.Ordinal)];
        const int mostNumbers = 1 << 16;
        int[] numbers = [.. names.Select(name => IsNumber(name, out int id) && id < mostNumbers ? id : -1)];
        return numbers.Length > 0 && numbers.Min() >= 0 ? [.. Enumerable.Range(0, numbers.Max() + 1).Select(id => $"LABEL_{id}")] : names;
    }

    private static bool IsNumber(string label, out int id) => int.TryParse(label, NumberStyles.None, CultureInfo.InvariantCulture, out id);

    private sealed record Labeled(RowFile File, long Place, string Text, string Label);
}
