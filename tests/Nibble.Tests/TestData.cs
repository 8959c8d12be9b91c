using System.IO.Compression;

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

    /// <summary>The root of the repository.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>Reference vectors made by other implementations.</summary>
    public static string Goldens => Path.Combine(Repository, "tests", "Nibble.Tests", "Goldens");

    /// <summary>The bytes of a golden file, which is kept as it stands or, where it is large, compressed beside that name with <c>.gz</c>.</summary>
    public static byte[] Golden(params string[] path)
    {
        string file = Path.Combine([Goldens, .. path]);
        if (File.Exists(file))
        {
            return File.ReadAllBytes(file);
        }

        using GZipStream compressed = new(File.OpenRead(file + ".gz"), CompressionMode.Decompress);
        using MemoryStream bytes = new();
        compressed.CopyTo(bytes);
        return bytes.ToArray();
    }

    /// <summary>The same as a file in a folder, for what is read by its path.</summary>
    public static string Unpacked(TempFolder folder, params string[] path)
    {
        string file = folder[path[^1]];
        File.WriteAllBytes(file, Golden(path));
        return file;
    }

    /// <summary>The embedded models and texts.</summary>
    public static string Assets => Path.Combine(Repository, "assets");

    private static string FindRepository()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder != null && !File.Exists(Path.Combine(folder.FullName, "Nibble.slnx")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new DirectoryNotFoundException("tests must run from inside the repository");
    }
}
