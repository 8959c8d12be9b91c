using Nibble.Evaluation.Protocols;
using Nibble.IO;

namespace Nibble.Evaluation.Texts;

/// <summary>Finds the text of <c>--data</c>: a file, a folder, an address or a name, see docs/data.md.</summary>
public static class TextSource
{
    /// <summary>Names a folder that holds data sets which do not come with Nibble.</summary>
    public const string EnvironmentVariable = "NIBBLE_DATA";

    /// <summary>Texts that are known by name.</summary>
    public static IReadOnlyList<string> Names { get; } = ["demo", "wikitext2"];

    private static readonly string[] TextExtensions = [".txt", ".md", ".rst", ".py", ".cs", ".c", ".h", ".cpp", ".js", ".ts", ".java", ".go", ".rs", ".raw", ".tokens", ".jsonl"];

    /// <summary>True for what is no path: a name of the list, a set with parts (<c>tweeteval/sentiment</c>), or an address.</summary>
    public static bool IsName(string data) => Names.Contains(data) || Data.NamedData.Knows(data) || Data.Sources.DataPlace.IsRemote(data);

    /// <summary>The protocol for a text where none is named: <c>examples</c> for sets of single documents, else <c>window</c>.</summary>
    public static string ProtocolOf(string data) => RowTexts.ProtocolOf(data) ?? "window";

    /// <summary>Reads a text.</summary>
    /// <exception cref="NibbleException">There is none, or it is empty or no text.</exception>
    public static EvaluationText Load(string data, Limits? limits = null)
    {
        limits ??= Limits.Default;
        EvaluationText text = data switch
        {
            "demo" => File_(data, AssetFolder.Find(Path.Combine("assets", "text", "test.txt")), limits),
            "wikitext2" => WikiText2(data, FindWikiText2(), limits),
            _ when RowTexts.Reads(data) => RowTexts.Load(data, limits),
            _ when Directory.Exists(data) => Folder(data, limits),
            _ when File.Exists(data) => File_(data, data, limits),
            _ => throw new NibbleException(ErrorKind.NotFound, $"data '{data}' does not exist", $"it is neither a file, nor a folder, nor an address, nor one of the names {string.Join(", ", Data.NamedData.Names)}", "check the path"),
        };
        if (text.Documents.All(string.IsNullOrWhiteSpace))
        {
            Throw.BadInput($"data '{data}' is empty", "there is nothing to measure on", "give a text of at least a few hundred words");
        }

        return text;
    }

    private static EvaluationText File_(string name, string path, Limits limits)
    {
        string plain = TextFile.PlainName(path);
        if (plain.StartsWith("wiki.", StringComparison.Ordinal) && plain.EndsWith(".raw", StringComparison.Ordinal))
        {
            return WikiText2(name, path, limits);
        }

        return RowTexts.Reads(path) ? RowTexts.Load(path, limits) : new EvaluationText(name, [TextFile.Read(path, limits)], TextJoin.Raw);
    }

    private static EvaluationText Folder(string folder, Limits limits)
    {
        foreach (string split in new[] { "wiki.test.raw", "wiki.test.raw.gz" })
        {
            if (File.Exists(Path.Combine(folder, split)))
            {
                return WikiText2(folder, Path.Combine(folder, split), limits);
            }
        }

        string[] files = [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
            .Where(file => TextExtensions.Contains(Path.GetExtension(TextFile.PlainName(file)), StringComparer.OrdinalIgnoreCase))
            .Order(StringComparer.Ordinal)];
        if (files.Length == 0)
        {
            Throw.BadInput($"data folder '{folder}' holds no text", $"looked for files ending in {string.Join(' ', TextExtensions)} (also with .gz)", "name a file instead");
        }

        return new EvaluationText(folder, [.. files.SelectMany(file => File_(file, file, limits).Documents)], TextJoin.Hf);
    }

    private static EvaluationText WikiText2(string name, string path, Limits limits) =>
        new(name, [TextFile.Read(path, limits)], TextJoin.Hf);

    private static string FindWikiText2()
    {
        string[] names = ["wiki.test.raw", "wiki.test.raw.gz"];
        string folder = DataFolders.Find("wikitext2", names);
        return names.Select(name => Path.Combine(folder, name)).First(File.Exists);
    }
}
