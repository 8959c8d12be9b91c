using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Evaluation.Texts;
using Nibble.IO;

namespace Nibble.Data;

/// <summary>Data sets that are known by name, with their official splits: <c>NAME</c>, <c>NAME/PART</c>, <c>NAME/PART/SPLIT</c>.</summary>
internal sealed class NamedData
{
    /// <summary>Where each set may stand below a folder of data sets; <c>*</c> is the split, <c>#</c> the part. The first that is there is taken.</summary>
    private static readonly Dictionary<string, string[]> Layouts = new(StringComparer.Ordinal)
    {
        ["wikitext2"] =
        [
            "wikitext2/wiki.*.raw", "wikitext-2-raw/wiki.*.raw", "wikitext/wikitext-2-raw-v1/*-00000-of-00001.parquet", "wikitext2/*-00000-of-00001.parquet",
            "wikitext2/wiki.*.raw.first1MB", "wikitext2/wiki.*.raw.first100kB", "wikitext2/wiki.*.tokens",
        ],
        ["tweeteval"] = ["tweeteval/#/*_text.txt", "tweet_eval/#/*-00000-of-00001.parquet", "tweeteval/#/*-00000-of-00001.parquet", "tweeteval/*_text.txt"],
        ["codesearchnet"] =
        [
            "codesearchnet/#/final/jsonl/*/", "codesearchnet/#/*/", "codesearchnet/#_*.jsonl", "code_search_net/#/*-00000-of-00001.parquet", "#-code/#_*.jsonl",
        ],
    };

    private static readonly Dictionary<string, string[]> SplitNames = new(StringComparer.Ordinal)
    {
        ["train"] = ["train"],
        ["validation"] = ["valid", "val", "validation"],
        ["test"] = ["test"],
    };

    private NamedData(string name, string set, string split, IReadOnlyList<DataObject> files)
    {
        (Name, Set, Split, Files) = (name, set, split, files);
        string path = files[0].Name;
        Note = path.Contains(".first", StringComparison.Ordinal) ? $"{name}: only the beginning of the {split} split is on this machine ({path})"
            : path.Contains(".tokens", StringComparison.Ordinal) ? $"{name}: the tokenized {split} split, in which rare words are <unk> ({path})"
            : path.Contains("python-code/", StringComparison.Ordinal) ? $"{name}: a substitute of CodeSearchNet's form, not CodeSearchNet itself ({path})"
            : null;
    }

    /// <summary>What can be named.</summary>
    public static IReadOnlyList<string> Names { get; } = ["demo", "wikitext2", "tweeteval/TASK", "codesearchnet/LANGUAGE"];

    /// <summary>As it was named.</summary>
    public string Name { get; }

    /// <summary>The set: <c>wikitext2</c>, <c>tweeteval</c> or <c>codesearchnet</c>.</summary>
    public string Set { get; }

    /// <summary>The split.</summary>
    public string Split { get; }

    /// <summary>Its files.</summary>
    public IReadOnlyList<DataObject> Files { get; }

    /// <summary>What to know about these files.</summary>
    public string? Note { get; }

    /// <summary>True if <paramref name="data"/> names such a set.</summary>
    public static bool Knows(string data) => Layouts.ContainsKey(data.Split('/')[0]) && !Path.Exists(data);

    /// <summary>Finds a set. A split may stand in the name, or be given, or is the first of <paramref name="preferred"/>.</summary>
    /// <exception cref="NibbleException">It is not there; the message says where was looked.</exception>
    public static NamedData Find(string data, string? split, params string[] preferred)
    {
        List<string> parts = [.. data.Split('/')];
        string set = parts[0];
        if (parts.Count > 1 && SplitNames.ContainsKey(SplitFiles.Canonical(parts[^1])))
        {
            split = parts[^1];
            parts.RemoveAt(parts.Count - 1);
        }

        string part = parts.Count > 1 ? parts[1] : set == "tweeteval" ? "sentiment" : set == "codesearchnet" ? "python" : string.Empty;
        if (parts.Count > 2 || part.Contains("..", StringComparison.Ordinal) || (set == "wikitext2" && parts.Count > 1) || (split is not null && !SplitNames.ContainsKey(SplitFiles.Canonical(split))))
        {
            Throw.Usage($"there is no data '{data}'{(split is null ? string.Empty : $" with the split '{split}'")}", $"known are {string.Join(", ", Names)}, each also with /train, /validation or /test", "check --data");
        }

        string[] wanted = split is null ? preferred : [SplitFiles.Canonical(split)];
        foreach (string one in wanted)
        {
            if (Locate(set, part, one) is { } files)
            {
                return new NamedData(data, set, one, files);
            }
        }

        throw new NibbleException(
            ErrorKind.NotFound,
            $"data '{data}' ({string.Join(" or ", wanted)}) is not on this machine",
            $"looked for {string.Join(", ", Layouts[set].Select(layout => layout.Replace("#", part, StringComparison.Ordinal)))} (* is the split; each also .gz) in {TextSource.EnvironmentVariable} and in data/ of the working folder and those above it",
            $"put it there, or set {TextSource.EnvironmentVariable} to the folder or address that holds it");
    }

    private static IReadOnlyList<DataObject>? Locate(string set, string part, string split)
    {
        foreach (string root in DataFolders.Candidates())
        {
            foreach (string layout in Layouts[set].Where(layout => part is "sentiment" or "" || set != "tweeteval" || layout.Contains('#', StringComparison.Ordinal)))
            {
                foreach (string name in SplitNames[split])
                {
                    string path = $"{root.TrimEnd('/')}/{layout.Replace("#", part, StringComparison.Ordinal).Replace("*", name, StringComparison.Ordinal)}";
                    if (Existing(path) is { } files)
                    {
                        return files;
                    }
                }
            }
        }

        return null;
    }

    private static IReadOnlyList<DataObject>? Existing(string path)
    {
        if (DataPlace.IsRemote(path))
        {
            DataObject? found = path.EndsWith('/') ? null : Remote(path) ?? Remote(path + ".gz");
            return found is null ? null : [found];
        }

        if (path.EndsWith('/'))
        {
            string[] files = Directory.Exists(path) ? [.. Directory.EnumerateFiles(path).Where(RowFile.HasRows).Order(StringComparer.Ordinal)] : [];
            return files.Length == 0 ? null : [.. files.Select(file => new LocalObject(file))];
        }

        return File.Exists(path) ? [new LocalObject(path)] : File.Exists(path + ".gz") ? [new LocalObject(path + ".gz")] : null;
    }

    private static DataObject? Remote(string path)
    {
        try
        {
            return DataPlace.Open(path).File;
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.NotFound)
        {
            return null;
        }
    }
}
