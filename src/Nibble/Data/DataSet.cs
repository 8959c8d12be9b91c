using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Texts;
using Nibble.IO;

namespace Nibble.Data;

/// <summary>The files that <c>--data</c> names, and their rows in order.</summary>
internal sealed class DataSet
{
    private DataSet(string name, IReadOnlyList<DataObject> files, Limits limits, NamedData? named = null)
    {
        (Name, Named) = (name, named);
        Files = [.. files.Select(file => new RowFile(file, limits))];
    }

    /// <summary>As the user named it.</summary>
    public string Name { get; }

    /// <summary>What is known about it, if it is a set with a name.</summary>
    public NamedData? Named { get; }

    /// <summary>Its files.</summary>
    public IReadOnlyList<RowFile> Files { get; }

    /// <summary>Finds data.</summary>
    /// <param name="data">A file, a folder, an address, or a name.</param>
    /// <param name="split">The split; null for the first of <paramref name="preferred"/> that there is.</param>
    /// <param name="limits">Ceilings.</param>
    /// <param name="preferred">Splits in the order in which they are taken.</param>
    /// <exception cref="NibbleException">There is none.</exception>
    public static DataSet Open(string data, string? split, Limits limits, params string[] preferred)
    {
        if (data == "demo")
        {
            string file = SplitFiles.Canonical(split ?? preferred[0]) == "test" ? "test.txt" : "tune-train.txt";
            return new DataSet(data, [new LocalObject(AssetFolder.Find($"assets/text/{file}"))], limits);
        }

        if (NamedData.Knows(data))
        {
            NamedData named = NamedData.Find(data, split, preferred);
            return new DataSet(data, named.Files, limits, named);
        }

        DataPlace place = DataPlace.Open(data);
        if (place.File is not null && split is not null)
        {
            Throw.Usage($"{data} is one file", $"it has no split '{split}'", "leave out --split, or name the folder");
        }

        return new DataSet(data, place.File is { } one ? [one] : SplitFiles.Of(place.Folder!).Files(split, preferred), limits);
    }

    /// <summary>Rows of a file of this set: lines of TweetEval's texts are rows of their own.</summary>
    public IEnumerable<RowRead> Rows(RowFile file) => Named?.Set == "tweeteval" && file.Form == FileForm.Text ? Tweets(file) : file.Rows();

    private static IEnumerable<RowRead> Tweets(RowFile file)
    {
        using Stream stream = file.Open();
        LineReader lines = new(stream, Limits.Default);
        while (lines.Next(out _) is { } line)
        {
            yield return RowRead.OfText(lines.Number, System.Text.Encoding.UTF8.GetString(line.Span).TrimEnd());
        }
    }
}
