using Nibble.Data;
using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Templates;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// The text of a calibration: any data that <c>finetune</c> reads, and of data with splits the training split, since the test split is what others measure on.
/// </summary>
internal static class CalibrationText
{
    private static readonly string[] Splits = ["train", "validation", "test"];

    /// <summary>Reads a text.</summary>
    /// <param name="data">What the user named; <c>demo</c> is the calibration split that ships with Nibble.</param>
    /// <param name="template">The model's chat template, asked for when rows are conversations.</param>
    /// <param name="note">Told what is worth knowing about the data.</param>
    public static EvaluationText Load(string data, Func<ChatTemplate?> template, Action<string>? note)
    {
        if (data == "demo")
        {
            return TextSource.Load(AssetFolder.Find(Path.Combine("assets", "text", "calibration.txt")));
        }

        if (!HasRowsOrSplits(data))
        {
            return TextSource.Load(data);
        }

        DataSet set = DataSet.Open(data, null, Limits.Default, NamedData.Knows(data) ? Splits[..2] : Splits);
        if (set.Named?.Note is { } known)
        {
            note?.Invoke(known);
        }

        EvaluationText text = new(data, RowTexts.Documents(set, template), TextJoin.Hf);
        if (text.Documents.All(string.IsNullOrWhiteSpace))
        {
            Throw.BadInput($"data '{data}' is empty", "there is nothing to calibrate on", "give a text of at least a few hundred words");
        }

        return text;
    }

    /// <summary>The name for a record: no folders of this machine, and nothing of an address behind its question mark, which may be a signature.</summary>
    public static string NameOf(string data) =>
        DataPlace.IsRemote(data) ? data.Split('?', '#')[0] : TextSource.IsName(data) ? data : Path.GetFileName(Path.TrimEndingDirectorySeparator(data));

    private static bool HasRowsOrSplits(string data) =>
        NamedData.Knows(data) || DataPlace.IsRemote(data) || (File.Exists(data) && RowFile.HasRows(data))
        || (Directory.Exists(data) && (RowTexts.HasOnlyRows(data) || SplitFiles.Find(new LocalFolder(data)) is { } found && found.Names.Count() > 1));
}
