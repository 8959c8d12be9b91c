namespace Nibble.Hub;

/// <summary>A model in the cache.</summary>
/// <param name="Repository"><c>ORG/NAME</c>.</param>
/// <param name="Folder">Its folder in the cache.</param>
/// <param name="Bytes">What it takes of the disk, unfinished downloads included.</param>
/// <param name="UnfinishedBytes">Part of it that belongs to downloads which did not end.</param>
/// <param name="Revisions">Its snapshots.</param>
/// <param name="LastModified">When a file was last added, UTC.</param>
public sealed record HubCachedModel(
    string Repository, string Folder, long Bytes, long UnfinishedBytes, IReadOnlyList<HubCachedRevision> Revisions, DateTime LastModified)
{
    internal static HubCachedModel Read(string folder, string repository)
    {
        DirectoryInfo root = new(folder);
        // Links take no space of their own; where there are none, snapshots hold the files themselves.
        FileInfo[] files = [.. root.EnumerateFiles("*", SearchOption.AllDirectories).Where(file => file.LinkTarget is null)];
        FileInfo[] unfinished = [.. files.Where(file => file.Name.EndsWith(HubDownload.Unfinished, StringComparison.Ordinal))];
        ILookup<string, string> names = References(folder);
        string snapshots = Path.Combine(folder, "snapshots");
        HubCachedRevision[] revisions = !Directory.Exists(snapshots) ? [] :
        [
            .. Directory.GetDirectories(snapshots).Select(path => new HubCachedRevision(
                Path.GetFileName(path), path, [.. names[Path.GetFileName(path)].Order(StringComparer.Ordinal)], Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Count())),
        ];
        return new HubCachedModel(
            repository, folder, files.Sum(file => file.Length), unfinished.Sum(file => file.Length), revisions,
            files.Length == 0 ? root.LastWriteTimeUtc : files.Max(file => file.LastWriteTimeUtc));
    }

    private static ILookup<string, string> References(string folder)
    {
        string references = Path.Combine(folder, "refs");
        string[] files = Directory.Exists(references) ? Directory.GetFiles(references, "*", SearchOption.AllDirectories) : [];
        return files.ToLookup(file => File.ReadAllText(file).Trim(), file => Path.GetRelativePath(references, file).Replace('\\', '/'));
    }
}

/// <summary>A snapshot of a model in the cache.</summary>
/// <param name="Commit">The commit.</param>
/// <param name="Path">Its folder.</param>
/// <param name="Names">Branches and tags that are this commit.</param>
/// <param name="Files">How many files it has.</param>
public sealed record HubCachedRevision(string Commit, string Path, IReadOnlyList<string> Names, int Files);
