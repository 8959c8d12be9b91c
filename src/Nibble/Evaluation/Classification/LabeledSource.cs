using System.Security.Cryptography;
using System.Text;
using Nibble.Data;
using Nibble.Evaluation.Texts;
using Nibble.IO;

namespace Nibble.Evaluation.Classification;

/// <summary>
/// Reads texts with classes: the TweetEval form, a folder with <c>SPLIT_text.txt</c>, <c>SPLIT_labels.txt</c> (each also .gz, one
/// row a line) and <c>mapping.txt</c> (number, tab, name).
/// </summary>
public static class LabeledSource
{
    /// <summary>Reads a split.</summary>
    /// <param name="data">A folder of the TweetEval form, or <c>tweeteval</c>: looked for where <see cref="TextSource"/> looks.</param>
    /// <param name="split"><c>train</c>, <c>val</c> or <c>test</c>.</param>
    /// <exception cref="NibbleException">The files are not there, or do not fit each other.</exception>
    public static LabeledSet Load(string data, string split)
    {
        if (data == "demo")
        {
            Throw.Usage("there are no texts with classes in the demo's data", "classification needs some", "give --data tweeteval, or a folder of that form");
        }

        string folder = FolderOf(data, split);
        string[] labels = Mapping(Path.Combine(folder, "mapping.txt"));
        string[] texts = Lines(folder, $"{split}_text.txt"), numbers = Lines(folder, $"{split}_labels.txt");
        if (texts.Length != numbers.Length)
        {
            Throw.BadInput($"{folder}: {split} has {texts.Length:N0} texts and {numbers.Length:N0} labels", "each line of one belongs to a line of the other", "download the data again");
        }

        if (texts.Length == 0)
        {
            Throw.BadInput($"{folder}: {split} is empty", "there is nothing to measure on");
        }

        LabeledText[] rows = [.. texts.Select((text, i) => new LabeledText(text, Label(numbers[i], i, labels.Length, folder, split)))];
        string all = string.Join('\n', rows.Select(row => $"{row.Label}\t{row.Text}"));
        return new LabeledSet(data, labels, rows, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(all))));
    }

    private static string FolderOf(string data, string split) => data == "tweeteval" ? DataFolders.Find(data, "mapping.txt")
        : NamedData.Knows(data) ? Path.GetDirectoryName(NamedData.Find(data, split).Files[0].Name)!
        : data;

    private static string[] Mapping(string path)
    {
        if (!File.Exists(path))
        {
            Throw.NotFound($"{path} does not exist", "a folder of texts with classes has the names of the classes there", "give a folder of the TweetEval form, see docs/eval.md");
        }

        string[][] lines = [.. File.ReadLines(path).Where(line => line.Length > 0).Select(line => line.Split('\t'))];
        for (int i = 0; i < lines.Length; i++)
        {
            if (lines[i].Length != 2 || lines[i][0] != i.ToString(System.Globalization.CultureInfo.InvariantCulture))
            {
                Throw.BadInput($"{path}: line {i + 1} is not '{i}', a tab and a name", "classes are numbered from 0", "correct the file");
            }
        }

        return [.. lines.Select(line => line[1])];
    }

    private static int Label(string text, int row, int classes, string folder, string split)
    {
        if (!int.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out int label) || label < 0 || label >= classes)
        {
            Throw.BadInput($"{folder}: line {row + 1} of {split}_labels.txt is '{text}'", $"classes are 0 to {classes - 1}", "correct the file, or mapping.txt");
        }

        return label;
    }

    private static string[] Lines(string folder, string name)
    {
        foreach (string path in new[] { Path.Combine(folder, name), Path.Combine(folder, name + ".gz") })
        {
            if (File.Exists(path))
            {
                // An empty last line ends the file; an empty line elsewhere is an empty text.
                string[] lines = TextFile.Read(path, Limits.Default).Split('\n');
                return [.. (lines[^1].Length == 0 ? lines[..^1] : lines).Select(line => line.EndsWith('\r') ? line[..^1] : line)];
            }
        }

        Throw.NotFound($"{folder} has no {name}", "looked for it, and for .gz of it", "check --data and --split");
        return [];
    }
}
