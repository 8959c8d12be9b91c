using Nibble.IO;

namespace Nibble.Evaluation.Texts;

/// <summary>Finds data sets that are known by name and do not come with Nibble.</summary>
internal static class DataFolders
{
    /// <summary>The folder <paramref name="name"/> that holds one of <paramref name="files"/>.</summary>
    /// <exception cref="NibbleException">It is nowhere; the message says where was looked.</exception>
    public static string Find(string name, params string[] files) =>
        Candidates().Select(folder => Path.Combine(folder, name)).FirstOrDefault(folder => files.Any(file => File.Exists(Path.Combine(folder, file))))
        ?? throw new NibbleException(
            ErrorKind.NotFound,
            $"data '{name}' is not on this machine",
            $"looked for {name}/{string.Join(" or ", files)} in the folder of {TextSource.EnvironmentVariable} and in data/ of the working folder and those above it",
            $"put it there, or set {TextSource.EnvironmentVariable} to the folder that holds {name}/");

    /// <summary>Where data sets may stand, in order; the first may be an address.</summary>
    public static IEnumerable<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable(TextSource.EnvironmentVariable) is { Length: > 0 } chosen)
        {
            yield return chosen;
        }

        for (DirectoryInfo? folder = new(Directory.GetCurrentDirectory()); folder != null; folder = folder.Parent)
        {
            yield return Path.Combine(folder.FullName, "data");
            yield return Path.Combine(folder.FullName, "shared", "data");
        }
    }
}
