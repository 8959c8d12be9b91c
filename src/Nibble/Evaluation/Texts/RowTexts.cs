using Nibble.Data;
using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Protocols;
using Nibble.IO;
using Nibble.Templates;

namespace Nibble.Evaluation.Texts;

/// <summary>Texts of data sets: by name, by address, and of all forms of rows.</summary>
internal static class RowTexts
{
    /// <summary>True for data that is read here: sets with a name, addresses, rows, and folders of nothing else.</summary>
    public static bool Reads(string data) =>
        NamedData.Knows(data) || DataPlace.IsRemote(data)
        || (File.Exists(data) && RowFile.HasRows(data))
        || (Directory.Exists(data) && HasOnlyRows(data));

    /// <summary>True for a folder that holds files of rows and nothing else.</summary>
    public static bool HasOnlyRows(string folder)
    {
        string[] data = [.. new LocalFolder(folder).Files.Where(file => Path.GetFileName(file) is not ("README.md" or "LICENSE" or "dataset_infos.json" or "dataset_info.json"))];
        return data.Length > 0 && data.All(RowFile.HasRows);
    }

    /// <summary>The protocol of a set's study where the user names none; null for every other text.</summary>
    public static string? ProtocolOf(string data) => NamedData.Knows(data) && data.Split('/')[0] is "codesearchnet" or "tweeteval" ? "examples" : null;

    /// <summary>Reads a text; of data with splits the test split, else the validation split, else what there is.</summary>
    public static EvaluationText Load(string data, Limits limits)
    {
        DataSet set = DataSet.Open(data, null, limits, "test", "validation", "train");
        bool one = set.Files.Count == 1 && set.Named is null && set.Files[0].Form == FileForm.Text;
        return new EvaluationText(data, Documents(set, template: null), one ? TextJoin.Raw : TextJoin.Hf);
    }

    /// <summary>The rows of a set as texts; with a way to a chat template conversations, too.</summary>
    public static IReadOnlyList<string> Documents(DataSet set, Func<ChatTemplate?>? template)
    {
        if (set.Named?.Set == "wikitext2")
        {
            return [Whole(set)];
        }

        List<string> documents = [];
        foreach (RowFile file in set.Files)
        {
            bool continues = false;
            foreach (RowRead row in set.Rows(file))
            {
                string text = TextOf(file, row, template);
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

        return documents;
    }

    /// <summary>WikiText as its file has it: rows of Parquet are its lines, the empty ones without their newline.</summary>
    private static string Whole(DataSet set) => string.Concat(set.Files.SelectMany(file => set.Rows(file).Select(row =>
        TextOf(file, row, null) is var text && file.Form == FileForm.Parquet && text.Length == 0 ? "\n" : text)));

    private static string TextOf(RowFile file, RowRead row, Func<ChatTemplate?>? template)
    {
        string? text = row.Fields is null ? null : RowShape.TextFields.Select(field => row.Fields.GetValueOrDefault(field) as string).FirstOrDefault(value => value is not null);
        if (text is null && row.Fields is { } fields && RowShape.Of(fields, RowFormat.Auto).Example is { } example)
        {
            text = example switch
            {
                TextExample plain => plain.Text,
                CompletionExample pair => pair.Prompt + pair.Completion,
                ChatExample chat when template is not null => Conversation(chat, template()),
                _ => null,
            };
        }

        if (text is null)
        {
            Throw.BadInput(
                $"{file.Source.Name}, {file.Unit} {Math.Abs(row.Place):N0}: {row.Problem ?? "the row has no text"}",
                row.Problem is null ? $"looked for {string.Join(", ", RowShape.TextFields)}, prompt with completion, and instruction with output" : null,
                "rename the field that holds the text, or correct the row");
        }

        return text!;
    }

    private static string Conversation(ChatExample chat, ChatTemplate? template)
    {
        if (template is null)
        {
            Throw.BadInput("rows are conversations, and the model has no chat template", "their text depends on it", "take a model that was tuned for chat, or rows of texts");
        }

        return template.Render(chat.Messages, chat.Tools, addGenerationPrompt: false);
    }
}
