namespace Nibble.Hub;

/// <summary>A file of a model on the Hub.</summary>
/// <param name="Path">Its path in the repository, with forward slashes.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Hash">SHA-256 of a large file's content, or git's SHA-1 of a small one: its name in the cache.</param>
/// <param name="IsLarge">Whether it is kept by Git LFS or Xet, and <paramref name="Hash"/> is a SHA-256.</param>
public sealed record HubFile(string Path, long Bytes, string Hash, bool IsLarge);

/// <summary>A model as it stands at one commit.</summary>
/// <param name="Repository"><c>ORG/NAME</c>, as it was asked for.</param>
/// <param name="NameNow">The name that the Hub gives it now.</param>
/// <param name="Commit">The commit, 40 hexadecimal digits.</param>
/// <param name="Files">All its files.</param>
public sealed record HubRevision(string Repository, string NameNow, string Commit, IReadOnlyList<HubFile> Files);
