using System.Text.Json;
using Nibble.Evaluation.Classification;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Data;

/// <summary>Texts with classes as rows to train a classification head on: the class is the target of a row's last token.</summary>
internal static class LabeledRows
{
    private const int MostProblemsShown = 5;

    /// <summary>
    /// Reads texts with classes: JSON lines with <c>text</c> and <c>label</c> (a name or a number), or a folder of the TweetEval form
    /// (or <c>tweeteval</c>), of which <paramref name="split"/> is taken.
    /// </summary>
    /// <param name="path">The file or folder.</param>
    /// <param name="split">Which part of a folder.</param>
    /// <param name="labels">Names of the classes; null takes those of the data, in the order of the alphabet or of their numbers.</param>
    /// <param name="skipBad">Leave out rows that can't be used.</param>
    /// <param name="skipped">How many were left out.</param>
    /// <exception cref="NibbleException">Nothing usable, or bad rows: the first few with file and line.</exception>
    public static LabeledSet Read(string path, string split, IReadOnlyList<string>? labels, bool skipBad, out int skipped)
    {
        skipped = 0;
        if (!File.Exists(path))
        {
            return RequireLabels(LabeledSource.Load(path, split), labels);
        }

        List<string> problems = [];
        List<(int Line, string Text, string Label)> rows = [];
        int number = 0;
        foreach (string line in File.ReadLines(path))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line) && Parse(line, number, rows) is { } problem)
            {
                problems.Add($"{Path.GetFileName(path)} line {number}: {problem}");
            }
        }

        labels ??= Names(rows);
        Dictionary<string, int> ids = labels.Select((label, id) => (label, id)).ToDictionary(item => item.label, item => item.id);
        List<LabeledText> known = [];
        foreach ((int line, string text, string label) in rows)
        {
            if (ids.TryGetValue(label, out int id) || (int.TryParse(label, out id) && id >= 0 && id < labels.Count))
            {
                known.Add(new LabeledText(text, id));
            }
            else
            {
                problems.Add($"{Path.GetFileName(path)} line {line}: label '{label}' is none of {string.Join(", ", labels)}");
            }
        }

        Refuse(path, problems, known.Count, skipBad);
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

    private static string? Parse(string line, int number, List<(int Line, string Text, string Label)> rows)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement row = document.RootElement;
            if (row.ValueKind != JsonValueKind.Object || !row.TryGetProperty("text", out JsonElement text) || text.ValueKind != JsonValueKind.String)
            {
                return "no object with a text";
            }

            if (!row.TryGetProperty("label", out JsonElement label) || label.ValueKind is not (JsonValueKind.String or JsonValueKind.Number))
            {
                return "no label (a name or a number)";
            }

            rows.Add((number, text.GetString()!, label.ToString()));
            return null;
        }
        catch (JsonException error)
        {
            return "not JSON: " + error.Message;
        }
    }

    /// <summary>The classes of the data: numbers stand for themselves, 0 to the largest.</summary>
    private static string[] Names(List<(int Line, string Text, string Label)> rows)
    {
        string[] names = [.. rows.Select(row => row.Label).Distinct().Order(StringComparer.Ordinal)];
        const int mostNumbers = 1 << 16;
        return names.Length > 0 && names.All(name => int.TryParse(name, out int id) && id is >= 0 and < mostNumbers)
            ? [.. Enumerable.Range(0, names.Max(int.Parse) + 1).Select(id => $"LABEL_{id}")]
            : names;
    }

    private static void Refuse(string path, List<string> problems, int usable, bool skipBad)
    {
        if (problems.Count > 0 && !skipBad)
        {
            string more = problems.Count > MostProblemsShown ? $"; and {problems.Count - MostProblemsShown:N0} more" : string.Empty;
            Throw.BadInput(
                $"{path}: {problems.Count:N0} rows can't be used: {string.Join("; ", problems.Take(MostProblemsShown))}{more}",
                "expected are JSON objects with text and label",
                "correct them, give all --labels, or pass --skip-bad to leave them out");
        }

        if (usable == 0)
        {
            Throw.BadInput($"{path} has no rows to train on", "it is empty, or every row was left out", "give JSON lines with text and label");
        }
    }
}
