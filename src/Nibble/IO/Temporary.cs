namespace Nibble.IO;

/// <summary>
/// Names of things being written: <c>.NAME.XXXXXXXX.nibble-tmp</c> beside their target, so that a rename never crosses a file
/// system and leftovers of a killed process can be told from the user's files.
/// </summary>
internal static class Temporary
{
    public const string Suffix = ".nibble-tmp";

    /// <summary>A fresh temporary name beside <paramref name="target"/>.</summary>
    public static string NameFor(string target, string suffix = Suffix) =>
        Path.Combine(Path.GetDirectoryName(target)!, $".{Path.GetFileName(target)}.{Random.Shared.Next():x8}{suffix}");

    /// <summary>Deletes temporary files of <paramref name="target"/> that no living process holds.</summary>
    public static void RemoveLeftovers(string target)
    {
        foreach (string path in Leftovers(target, Suffix, Directory.EnumerateFiles))
        {
            try
            {
                // A living writer holds its file exclusively: this open fails then, and the file stays.
                using (new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.None))
                {
                    File.Delete(path);
                }
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
            }
        }
    }

    /// <summary>Names beside <paramref name="target"/> that <see cref="NameFor"/> gave out for it.</summary>
    public static string[] Leftovers(string target, string suffix, Func<string, IEnumerable<string>> enumerate)
    {
        string prefix = $".{Path.GetFileName(target)}.";
        bool IsOurs(string name) => name.Length == prefix.Length + 8 + suffix.Length
            && name.StartsWith(prefix, StringComparison.Ordinal)
            && name.EndsWith(suffix, StringComparison.Ordinal)
            && name.AsSpan(prefix.Length, 8).ContainsAnyExcept("0123456789abcdef") == false;
        return enumerate(Path.GetDirectoryName(target)!).Where(path => IsOurs(Path.GetFileName(path))).ToArray();
    }
}
