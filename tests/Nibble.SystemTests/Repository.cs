namespace Nibble.SystemTests;

/// <summary>Where the repository stands on this machine.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>Reference vectors and tiny models made by other implementations.</summary>
    public static string Goldens => Path.Combine(Root, "tests", "Nibble.Tests", "Goldens");

    private static string FindRoot()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder != null && !File.Exists(Path.Combine(folder.FullName, "Nibble.slnx")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new DirectoryNotFoundException("tests must run from inside the repository");
    }
}
