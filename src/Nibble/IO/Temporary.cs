namespace Nibble.IO;

/// <summary>
/// Names of things being written: <c>.NAME.XXXXXXXX.nibble-tmp</c> beside their target, so that a rename never crosses a file
/// system and leftovers of a killed process can be told from the user's files.
/// </summary>
internal static class Temporary
{
    public const string Suffix = ".nibble-tmp";

    private const int MaxAttempts = 64;

    /// <summary>A fresh temporary name beside <paramref name="target"/>.</summary>
    public static string NameFor(string target, string suffix = Suffix) =>
        Path.Combine(Path.GetDirectoryName(target)!, $".{Path.GetFileName(target)}.{Random.Shared.Next():x8}{suffix}");

    /// <summary>
    /// Creates something under a fresh temporary name and holds it. Between its creation and its lock another writer of the same
    /// target may take it for the leftover of a killed one and delete it: then a new name is tried.
    /// </summary>
    /// <param name="target">What is being written.</param>
    /// <param name="create">Creates and locks the thing under the name that it is given.</param>
    /// <param name="locked">The file that holds the lock, from the same name.</param>
    public static T Claim<T>(string target, Func<string, T> create, Func<string, string> locked)
        where T : IDisposable
    {
        for (int attempt = 1; ; attempt++)
        {
            string name = NameFor(target);
            try
            {
                T held = create(name);
                if (attempt == MaxAttempts || File.Exists(locked(name)))
                {
                    return held;
                }

                held.Dispose();
            }
            catch (IOException error) when (attempt < MaxAttempts && (error is FileNotFoundException or DirectoryNotFoundException || IsHeldByAnother(error)))
            {
            }
        }
    }

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

    // EAGAIN of Linux and of macOS, ERROR_SHARING_VIOLATION of Windows: a cleaner holds the file that was just created.
    private static bool IsHeldByAnother(IOException error) => error.HResult is 11 or 35 or unchecked((int)0x80070020);
}
