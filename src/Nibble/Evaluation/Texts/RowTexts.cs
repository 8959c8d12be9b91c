using Nibble.Data;
using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Protocols;
using Nibble.IO;

namespace Nibble.Evaluation.Texts;

/// <summary>Texts of data sets: by name, by address, and of all forms of rows.</summary>
internal static class RowTexts
{
    /// <summary>True for data that is read here: sets with a name, addresses, rows, and folders of nothing else.</summary>
    public static bool Reads(string data) =>
        NamedData.Knows(data) || DataPlace.IsRemote(data)
        || (File.Exists(data) && RowFile.HasRows(data) && !IsLines(data))
        || (Directory.Exists(data) && HasOnlyRows(new LocalFolder(data).Files));

    /// <summary>The protocol of a set's study where the user names none; null for every other text.</summary>
    public static string? ProtocolOf(string data) => NamedData.Knows(data) && data.Split('/')[0] is "codesearchnet" or "tweeteval" ? "examples" : null;

    /// <summary>Reads a text; of data with splits the test split, else the validation split, else what there is.</summary>
    public static EvaluationText Load(string data, Limits limits)
    {
        DataSet set = DataSet.Open(data, null, limits, "test", "validation", "train");
        if (set.Named?.Set == "wikitext2")
        {
            return new EvaluationText(data, [Whole(set)], TextJoin.Hf);
        }

        List<string> documents = [];
        foreach (RowFile file in set.Files)
        {
            bool continues = false;
            foreach (RowRead row in set.Rows(file))
            {
                string text = TextOf(file, row);
                if (continues)
                {
                    documents[^1] += text;
                }
                else
                {
                    documents.Add(text);
                }

                continues = row.Continues;
            }
        }

        bool one = set.Files.Count == 1 && set.Named is null && set.Files[0].Form == FileForm.Text;
        return new EvaluationText(data, documents, one ? TextJoin.Raw : TextJoin.Hf);
    }

    private static bool IsLines(string data) => data.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase) || data.EndsWith(".jsonl.gz", StringComparison.OrdinalIgnoreCase);

    private static bool HasOnlyRows(IReadOnlyList<string> files)
    {
        string[] data = [.. files.Where(file => Path.GetFileName(file) is not ("README.md" or "LICENSE" or "dataset_infos.json" or "dataset_info.json"))];
        return data.Length > 0 && data.All(RowFile.HasRows);
    }

    /// <summary>WikiText as its file has it: rows of Parquet are its lines, the empty ones without their newline.</summary>
    private static string Whole(DataSet set) => string.Concat(set.Files.SelectMany(file => set.Rows(file).Select(row =>
        TextOf(file, row) is var text && file.Form == FileForm.Parquet && text.Length == 0 ? "\n" : text)));

    private static string TextOf(RowFile file, RowRead row)
    {
        string? text = row.Fields is null ? null : TextFile.TextFields.Select(field => row.Fields.GetValueOrDefault(field) as string).FirstOrDefault(value => value is not null);
        if (text is null && row.Fields is { } fields && RowShape.Of(fields, RowFormat.Auto).Example is { } example)
        {
            text = example switch
            {
                TextExample plain => plain.Text,
                CompletionExample pair => pair.Prompt + pair.Completion,
                _ => null,
            };
        }

        if (text is null)
        {
            Throw.BadInput(
                $"{file.Source.Name}, row {Math.Abs(row.Place):N0}: {row.Problem ?? "the row has no text"}",
                row.Problem is null ? $"looked for {string.Join(", ", TextFile.TextFields)}, prompt with completion, and instruction with output" : null,
                "rename the field that holds the text, or correct the row");
        }

        return text!;
    }
}
