namespace Nibble.IO;

/// <summary>
/// Finds what ships with Nibble: the embedded models and texts (<c>assets/</c>) and the studies (<c>studies/</c>). In the repository
/// they stand at its root, in the installed tool beside the program.
/// </summary>
public static class AssetFolder
{
    /// <summary>Names a folder that holds <c>assets</c> and <c>studies</c>, for installations that keep them elsewhere.</summary>
    public const string EnvironmentVariable = "NIBBLE_HOME";

    /// <summary>The full path of a shipped file or folder, for example <c>assets/text/test.txt</c>.</summary>
    /// <exception cref="NibbleException">It is not there; the message lists where it was looked for.</exception>
    public static string Find(string relative)
    {
        List<string> tried = [];
        foreach (string root in Roots())
        {
            string path = Path.Combine(root, relative);
            if (Path.Exists(path))
            {
                return path;
            }

            tried.Add(path);
        }

        throw new NibbleException(
            ErrorKind.NotFound,
            $"{relative} does not come with this installation",
            "looked for " + string.Join(", ", tried.Take(4)),
            $"run from a clone of the repository, or set {EnvironmentVariable} to one");
    }

    /// <summary>The same, or null if it is not there.</summary>
    public static string? TryFind(string relative) => Roots().Select(root => Path.Combine(root, relative)).FirstOrDefault(Path.Exists);

    private static IEnumerable<string> Roots()
    {
        if (Environment.GetEnvironmentVariable(EnvironmentVariable) is { Length: > 0 } home)
        {
            yield return home;
        }

        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            yield return folder.FullName;
        }
    }
}
