using System.Text.RegularExpressions;
using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.IO;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Nibble.Data;

/// <summary>
/// Which files of a folder belong to which split, by the rules of Hugging Face's datasets: <c>configs</c> in README.md, else
/// <c>data/SPLIT-00000-of-00001.*</c>, else a word in the name of a folder or file; what has none is for training.
/// </summary>
internal sealed partial class SplitFiles
{
    private static readonly string[] Ignored = ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];
    private static readonly string[] TextEndings = [".txt", ".md", ".raw", ".tokens"];
    private readonly OrderedDictionary<string, List<string>> _splits = new(StringComparer.Ordinal);
    private readonly DataFolder _folder;

    private SplitFiles(DataFolder folder) => _folder = folder;

    /// <summary>Names of the splits.</summary>
    public IEnumerable<string> Names => _splits.Keys;

    /// <summary>Sorts the files of a folder.</summary>
    /// <exception cref="NibbleException">There is no file of data.</exception>
    public static SplitFiles Of(DataFolder folder) => Find(folder) ?? throw new NibbleException(
        ErrorKind.NotFound, $"{folder.Name} has no file of data", "looked for .jsonl, .ndjson, .json, .csv, .tsv, .txt, .md (each also .gz) and .parquet", "check --data");

    /// <summary>The same; null if there is no file of data.</summary>
    public static SplitFiles? Find(DataFolder folder)
    {
        SplitFiles splits = new(folder);
        string[] rows = [.. folder.Files.Where(file => RowFile.HasRows(file) && !Ignored.Contains(Path.GetFileName(file)))];
        if (folder.Text("README.md") is { } readme && splits.ReadCard(readme, rows))
        {
            return splits;
        }

        string[] texts = [.. folder.Files.Where(file => !Ignored.Contains(file) && TextEndings.Contains(Path.GetExtension(Plain(file)), StringComparer.OrdinalIgnoreCase))];
        if (rows.Length > 0)
        {
            string[] data = [.. rows.Where(file => InData().IsMatch(file))];
            splits.Sort(data.Length > 0 ? data : rows);
        }
        else if (texts.Length > 0)
        {
            // A word in the name of one text among others says nothing; where all have one, it does.
            bool told = texts.All(file => Word(Path.GetFileName(file)) is not null);
            splits._splits["train"] = [];
            texts.ToList().ForEach(file => splits.Add(told ? Word(Path.GetFileName(file))! : "train", file));
        }
        else
        {
            return null;
        }

        return splits;
    }

    /// <summary>The one name for a split.</summary>
    public static string Canonical(string split) => split.ToLowerInvariant() switch
    {
        "train" or "training" => "train",
        "validation" or "valid" or "val" or "dev" => "validation",
        "test" or "testing" or "eval" or "evaluation" => "test",
        _ => split,
    };

    /// <summary>The files of a split; without one, of the first of <paramref name="preferred"/> that there is.</summary>
    /// <exception cref="NibbleException">There is no such split: those that there are are listed.</exception>
    public IReadOnlyList<DataObject> Files(string? split, params string[] preferred)
    {
        string? name = split is null ? preferred.FirstOrDefault(HasFiles) ?? _splits.Keys.FirstOrDefault(HasFiles) : Canonical(split);
        if (name is null || !HasFiles(name))
        {
            Throw.NotFound($"{_folder.Name} has no split '{split}'", $"it has {string.Join(", ", _splits.Keys.Where(HasFiles))}", "choose one of them with --split");
            return [];
        }

        return [.. _splits[name].Select(_folder.Open)];
    }

    private bool HasFiles(string split) => _splits.TryGetValue(split, out List<string>? files) && files.Count > 0;

    private void Sort(string[] files)
    {
        foreach (string file in files)
        {
            string[] parts = file.Split('/');
            string? split = InData().Match(file) is { Success: true } named ? Canonical(named.Groups[1].Value) : null;
            split ??= parts.SkipLast(1).Select(Word).LastOrDefault(word => word is not null) ?? Word(parts[^1]);
            Add(split ?? "train", file);
        }
    }

    private void Add(string split, string file)
    {
        if (!_splits.TryGetValue(split, out List<string>? files))
        {
            _splits[split] = files = [];
        }

        files.Add(file);
    }

    /// <summary>Reads <c>configs</c> of a data card; false if it has none.</summary>
    private bool ReadCard(string readme, string[] files)
    {
        Match head = FrontMatter().Match(readme);
        if (!head.Success || !head.Groups[1].Value.Contains("data_files", StringComparison.Ordinal))
        {
            return false;
        }

        try
        {
            YamlStream yaml = [];
            yaml.Load(new StringReader(head.Groups[1].Value));
            YamlMappingNode[] configs = [.. Child(yaml.Documents[0].RootNode, "configs") is YamlSequenceNode list ? list.Children.OfType<YamlMappingNode>() : []];
            YamlMappingNode? chosen = configs.FirstOrDefault(one => Scalar(one, "default") == "true") ?? configs.FirstOrDefault(one => Scalar(one, "config_name") == "default") ?? configs.FirstOrDefault();
            return chosen is not null && ReadFiles(Child(chosen, "data_files"), files);
        }
        catch (YamlException)
        {
            // The card is prose with a head; where the head is broken, the names of the files still tell.
            return false;
        }
    }

    private bool ReadFiles(YamlNode? node, string[] files)
    {
        foreach (YamlNode one in node is YamlSequenceNode list ? list.Children : node is null ? [] : [node])
        {
            string split = one is YamlMappingNode ? Canonical(Scalar(one, "split") ?? "train") : "train";
            YamlNode? paths = one is YamlMappingNode ? Child(one, "path") : one;
            foreach (YamlScalarNode path in (paths is YamlSequenceNode many ? many.Children : paths is null ? [] : [paths]).OfType<YamlScalarNode>())
            {
                Regex pattern = Glob(path.Value ?? string.Empty);
                files.Where(file => pattern.IsMatch(file)).ToList().ForEach(file => Add(split, file));
            }
        }

        return _splits.Count > 0;
    }

    private static YamlNode? Child(YamlNode node, string name) =>
        node is YamlMappingNode map && map.Children.TryGetValue(new YamlScalarNode(name), out YamlNode? child) ? child : null;

    private static string? Scalar(YamlNode node, string name) => (Child(node, name) as YamlScalarNode)?.Value;

    private static Regex Glob(string pattern) => new(
        "^" + Regex.Escape(pattern.TrimStart('.', '/')).Replace(@"\*\*/", "(.*/)?", StringComparison.Ordinal).Replace(@"\*\*", ".*", StringComparison.Ordinal)
            .Replace(@"\*", "[^/]*", StringComparison.Ordinal).Replace(@"\?", "[^/]", StringComparison.Ordinal) + "$",
        RegexOptions.CultureInvariant,
        TimeSpan.FromSeconds(1));

    private static string Plain(string file) => file.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? file[..^3] : file;

    /// <summary>The split that a name tells by a word that stands alone.</summary>
    private static string? Word(string name) => SplitWord().Match(name) is { Success: true } found ? Canonical(found.Groups[1].Value) : null;

    [GeneratedRegex(@"(?:^|/)data/([A-Za-z_]+)-\d{5}-of-\d{5}[^/]*$")]
    private static partial Regex InData();

    [GeneratedRegex(@"(?:^|[-._ \d])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?:$|[-._ \d])", RegexOptions.IgnoreCase)]
    private static partial Regex SplitWord();

    [GeneratedRegex(@"^\uFEFF?---\r?\n(.*?)\r?\n---", RegexOptions.Singleline)]
    private static partial Regex FrontMatter();
}
