using System.IO.Enumeration;
using System.Text.RegularExpressions;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Hub;

/// <summary>Chooses the files of a model that Nibble can use: never pickles or code, and one form of the weights.</summary>
internal static partial class HubSelection
{
    private static readonly string[] Texts = [".json", ".txt", ".model", ".jinja", ".md"];

    /// <summary>The files to download.</summary>
    /// <param name="revision">The model.</param>
    /// <param name="part">One file or a part of its name, from the model's name; null for the whole model.</param>
    /// <param name="patterns">Patterns with * and ? to choose by instead; none for Nibble's choice.</param>
    /// <exception cref="NibbleException">Nothing is chosen, or several files could be meant.</exception>
    public static IReadOnlyList<HubFile> Choose(HubRevision revision, string? part, IReadOnlyList<string> patterns)
    {
        if (patterns.Count > 0)
        {
            return Matching(revision, patterns);
        }

        HubFile[] root = [.. revision.Files.Where(file => !file.Path.Contains('/'))];
        HubFile[] weights = part is null ? Weights(revision, root) : [.. Shards(revision, One(revision, part))];
        return [.. root.Where(IsText).Where(file => file.Path != HfShards.IndexName || weights.Length > 1 || part is null).Concat(weights).Distinct()];
    }

    /// <summary>What a part of a name means among files: the one of exactly this path or name, else all that have it as a word, without regard to case.</summary>
    public static IReadOnlyList<T> Named<T>(IEnumerable<T> files, string part, Func<T, string> path)
    {
        T[] all = [.. files];
        T[] exact = [.. all.Where(file => path(file) == part || Path.GetFileName(path(file)) == part)];
        string word = $@"(^|[^A-Za-z0-9]){Regex.Escape(part)}([^A-Za-z0-9_]|$)";
        return exact.Length > 0 ? exact : [.. all.Where(file => Regex.IsMatch(Path.GetFileName(path(file)), word, RegexOptions.IgnoreCase))];
    }

    /// <summary>Whether a file is whole, or the first part of a GGUF file in parts, by which it is opened.</summary>
    public static bool IsFirst(string path) => GgufShard().Match(path) is not { Success: true } match || match.Groups["number"].Value == "00001";

    private static HubFile[] Matching(HubRevision revision, IReadOnlyList<string> patterns)
    {
        HubFile[] chosen = [.. revision.Files.Where(file => patterns.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, file.Path, ignoreCase: false)))];
        if (chosen.Length == 0)
        {
            Throw.NotFound($"no file of {revision.Repository} matches {string.Join(", ", patterns)}", Listed(revision.Files), "patterns have * and ?, and match whole paths");
        }

        return chosen;
    }

    private static HubFile[] Weights(HubRevision revision, HubFile[] root)
    {
        HubFile[] tensors = [.. root.Where(file => file.Path.EndsWith(".safetensors", StringComparison.Ordinal))];
        // As they are opened: the one file, else the shards of the index. Others are the same weights again (consolidated, fp16), except for adapters.
        HubFile[] chosen = tensors.Where(file => file.Path == HfShards.SingleName).ToArray() is { Length: 1 } single ? single
            : tensors.Where(file => Shard().IsMatch(file.Path)).ToArray() is { Length: > 0 } shards && root.Any(file => file.Path == HfShards.IndexName) ? shards
            : tensors;
        if (chosen.Length > 0)
        {
            return chosen;
        }

        HubFile[] ggufs = [.. revision.Files.Where(file => GgufFile.Names(file.Path))];
        HubFile[] firsts = [.. ggufs.Where(file => IsFirst(file.Path))];
        if (firsts.Length > 1)
        {
            Throw.Usage($"{revision.Repository} has {firsts.Length} GGUF files", Listed(firsts), $"name one, or a part of its name: nibble pull {revision.Repository}:{Path.GetFileName(firsts[0].Path)}");
        }

        return firsts.Length == 1 ? [.. Shards(revision, firsts[0])] : throw NoWeights(revision);
    }

    private static HubFile One(HubRevision revision, string part)
    {
        HubFile[] weights = [.. revision.Files.Where(file => GgufFile.Names(file.Path) || file.Path.EndsWith(".safetensors", StringComparison.Ordinal))];
        IReadOnlyList<HubFile> named = [.. Named(weights, part, file => file.Path).Where(file => IsFirst(file.Path) || file.Path == part)];
        return named switch
        {
            [HubFile only] => only,
            [] => throw new NibbleException(ErrorKind.NotFound, $"{revision.Repository} has no weights named {part}", Listed(weights), "name one of these files, or a part of its name"),
            _ => throw new NibbleException(ErrorKind.Usage, $"{part} names {named.Count} files of {revision.Repository}", Listed(named), "name one of them in full"),
        };
    }

    // A GGUF file in several parts is useless without the others.
    private static IEnumerable<HubFile> Shards(HubRevision revision, HubFile first)
    {
        Match match = GgufShard().Match(first.Path);
        return match.Success
            ? revision.Files.Where(file => GgufShard().Match(file.Path) is { Success: true } other && other.Groups["stem"].Value == match.Groups["stem"].Value && other.Groups["count"].Value == match.Groups["count"].Value)
            : [first];
    }

    private static bool IsText(HubFile file) => Texts.Contains(Path.GetExtension(file.Path).ToLowerInvariant()) || file.Path.StartsWith("LICENSE", StringComparison.OrdinalIgnoreCase);

    private static NibbleException NoWeights(HubRevision revision)
    {
        HubFile[] pickles = [.. revision.Files.Where(file => HfShards.IsPickle(file.Path))];
        return pickles.Length > 0
            ? new NibbleException(
                ErrorKind.BadInput, $"{revision.Repository} holds its weights as pickle files: {Listed(pickles)}", "loading a pickle file can run any code that its author put there, so Nibble never reads one",
                "look for a safetensors version: another repository, or a branch such as refs/pr/1 (--revision)")
            : new NibbleException(ErrorKind.NotFound, $"{revision.Repository} has no weights that Nibble reads", Listed(revision.Files), "Nibble reads .safetensors and .gguf; --include PATTERN downloads other files");
    }

    private static string Listed(IEnumerable<HubFile> files) =>
        files.Select(file => file.Path).Order(StringComparer.Ordinal).ToArray() is { Length: > 0 } paths ? string.Join(", ", paths.Take(20)) + (paths.Length > 20 ? $" and {paths.Length - 20} more" : string.Empty) : "it has no files";

    [GeneratedRegex(@"^model-\d{5}-of-\d{5}\.safetensors$")]
    private static partial Regex Shard();

    [GeneratedRegex(@"^(?<stem>.+)-(?<number>\d{5})-of-(?<count>\d{5})\.gguf$")]
    private static partial Regex GgufShard();
}
