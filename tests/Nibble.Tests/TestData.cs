namespace Nibble.Tests;

/// <summary>Finds real data that is not part of the project: a folder <c>shared</c> beside the repository.</summary>
internal static class TestData
{
    /// <summary>The path of a file or folder under <c>shared</c>, or null where it does not exist.</summary>
    public static string? Shared(string relative)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            string path = Path.Combine(folder.FullName, "shared", relative);
            if (Path.Exists(path))
            {
                return path;
            }
        }

        return null;
    }
}
