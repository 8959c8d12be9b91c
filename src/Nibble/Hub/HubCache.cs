using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Hub;

/// <summary>
/// Models that were downloaded from the Hub, in the layout of huggingface_hub, which shares them with Nibble: <c>models--ORG--NAME</c> holds
/// <c>blobs</c> (contents by hash), <c>snapshots/COMMIT</c> (links to them by path) and <c>refs</c> (which commit a branch is).
/// </summary>
public sealed class HubCache
{
    private const string Prefix = "models--";

    /// <summary>The cache in a folder, which need not exist.</summary>
    public HubCache(string root) => Root = Path.GetFullPath(root);

    /// <summary>The cache's folder.</summary>
    public string Root { get; }

    /// <summary>The cache of this user.</summary>
    public static HubCache OfUser => new(HubSettings.CacheFromEnvironment());

    /// <summary>What a model's argument means: the place of a model of the Hub in the cache of this user; everything else as it is.</summary>
    public static string Find(string given)
    {
        ArgumentNullException.ThrowIfNull(given);
        return NameOf(given) is { } name && OfUser.Snapshot(name) is { } snapshot && Choices(snapshot, name) is [string only] ? only : given;
    }

    /// <summary>What the model at a path is called in results: the last part of the path, but a snapshot of the cache by its model's name, not by its commit.</summary>
    public static string Called(string path)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)), last = Path.GetFileName(full);
        return IsCommit(last) && Path.GetDirectoryName(full) is { } snapshots && Path.GetFileName(snapshots) == "snapshots" && Path.GetFileName(Path.GetDirectoryName(snapshots)) is { } folder && folder.StartsWith(Prefix, StringComparison.Ordinal)
            ? Repository(folder)
            : last;
    }

    /// <summary>Why there is no model at a path, or of a name.</summary>
    internal static NibbleException Absent(string given)
    {
        if (NameOf(given) is not { } name)
        {
            return new NibbleException(ErrorKind.NotFound, $"{given} does not exist", remedy: "check the path");
        }

        HubCache cache = OfUser;
        return cache.Snapshot(name) is { } snapshot
            ? Undecided(snapshot, name)
            : new NibbleException(ErrorKind.NotFound, $"{given} does not exist", $"it is neither a file nor a folder, and the Hub's cache {cache.Root} has no model of this name", $"check the path; a model of the Hub is downloaded by: nibble pull {name}; with Nibble come nibble-gpt2-10m and nibble-llama-4m");
    }

    /// <summary>The folder of a model's snapshot; null if the cache has none.</summary>
    public string? Snapshot(HubName name)
    {
        string folder = FolderOf(name.Repository), commit = name.Revision;
        if (!IsCommit(commit))
        {
            string reference = Path.Combine(folder, "refs", commit);
            if (!File.Exists(reference))
            {
                return null;
            }

            commit = File.ReadAllText(reference).Trim();
        }

        string snapshot = Path.Combine(folder, "snapshots", commit);
        return IsCommit(commit) && Directory.Exists(snapshot) ? snapshot : null;
    }

    /// <summary>Every model in the cache, by name.</summary>
    public IReadOnlyList<HubCachedModel> List() => !Directory.Exists(Root) ? [] :
    [
        .. Directory.GetDirectories(Root, Prefix + "*")
            .Select(folder => HubCachedModel.Read(folder, Repository(Path.GetFileName(folder))))
            .OrderBy(model => model.Repository, StringComparer.OrdinalIgnoreCase),
    ];

    /// <summary>One model of the cache.</summary>
    /// <exception cref="NibbleException">It is not there.</exception>
    public HubCachedModel Get(string repository) => List().FirstOrDefault(one => one.Repository.Equals(repository, StringComparison.OrdinalIgnoreCase))
        ?? throw new NibbleException(ErrorKind.NotFound, $"{repository} is not in the cache", $"the cache is {Root}", "'nibble cache' lists what is");

    /// <summary>Deletes a model with all its revisions.</summary>
    /// <returns>Bytes that became free.</returns>
    /// <exception cref="NibbleException">It is not there, or a file of it can't be deleted.</exception>
    public long Remove(string repository)
    {
        HubCachedModel model = Get(repository);
        try
        {
            Directory.Delete(model.Folder, recursive: true);
            string locks = Path.Combine(Root, ".locks", Path.GetFileName(model.Folder));
            if (Directory.Exists(locks))
            {
                Directory.Delete(locks, recursive: true);
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new NibbleException(ErrorKind.Resource, $"{model.Folder} can't be deleted as a whole", error.Message, "end what uses it, check permissions, and try again", error);
        }

        return model.Bytes;
    }

    internal static bool IsCommit(string text) => text.Length == 40 && text.All(char.IsAsciiHexDigitLower);

    internal string FolderOf(string repository) => Path.Combine(Root, Prefix + repository.Replace("/", "--", StringComparison.Ordinal));

    internal string BlobOf(string repository, HubFile file) => Path.Combine(FolderOf(repository), "blobs", file.Hash);

    internal string LockOf(string repository, HubFile file) => Path.Combine(Root, ".locks", Path.GetFileName(FolderOf(repository)), file.Hash + ".lock");

    internal string SnapshotOf(HubRevision revision) => Path.Combine(FolderOf(revision.Repository), "snapshots", revision.Commit);

    /// <summary>Notes which commit a branch or tag is. A commit needs no note.</summary>
    internal void Refer(HubRevision revision, string name)
    {
        if (!IsCommit(name))
        {
            string path = Path.Combine(FolderOf(revision.Repository), "refs", name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            AtomicFile.WriteAllText(path, revision.Commit);
        }
    }

    private static string Repository(string folder) => folder[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal);

    // What looks like a file is none of the Hub's names.
    private static HubName? NameOf(string given) =>
        Path.Exists(given) || HubName.TryParse(given) is not { } name || (name.File is null && (GgufFile.Names(given) || (Path.HasExtension(given) && !given.Contains('/')))) ? null : name;

    // A snapshot with weights in Hugging Face's form is a model folder; one of GGUF files is that file which the name tells.
    private static string[] Choices(string snapshot, HubName name)
    {
        if (name.File is null && Directory.EnumerateFiles(snapshot, "*.safetensors").Any())
        {
            return [snapshot];
        }

        string[] files = [.. Weights(snapshot).Where(file => name.File is not null || GgufFile.Names(file))];
        return name.File is { } part ? [.. HubSelection.Named(files, part, file => Path.GetRelativePath(snapshot, file).Replace('\\', '/'))] : files;
    }

    private static IEnumerable<string> Weights(string snapshot) => Directory.EnumerateFiles(snapshot, "*", SearchOption.AllDirectories)
        .Where(file => (GgufFile.Names(file) && HubSelection.IsFirst(file)) || file.EndsWith(".safetensors", StringComparison.Ordinal));

    private static NibbleException Undecided(string snapshot, HubName name)
    {
        string[] choices = Choices(snapshot, name), weights = [.. Weights(snapshot)];
        string Listed(string[] files) => files.Length == 0 ? "no weights" : string.Join(", ", files.Select(file => Path.GetRelativePath(snapshot, file)).Order(StringComparer.Ordinal).Take(20));
        return choices.Length > 1
            ? new NibbleException(ErrorKind.Usage, $"{name} has {choices.Length} files to choose from", Listed(choices), $"name one, or a part of its name: {name.Repository}:{Path.GetFileName(choices[0])}")
            : new NibbleException(
                ErrorKind.NotFound, $"{name} is in the cache without {(name.File is null ? "weights" : "a file of this name")}", $"{snapshot} holds {Listed(weights)}", $"download it: nibble pull {name}");
    }
}
