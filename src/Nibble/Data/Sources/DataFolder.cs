using Nibble.IO;

namespace Nibble.Data.Sources;

/// <summary>Files that belong together, on this machine or in an object store.</summary>
internal abstract class DataFolder
{
    /// <summary>Most files of a folder.</summary>
    protected const int MostFiles = 100_000;

    /// <summary>The name as the user would write it.</summary>
    public abstract string Name { get; }

    /// <summary>Paths of all files below, with <c>/</c>, in order.</summary>
    public abstract IReadOnlyList<string> Files { get; }

    /// <summary>A file.</summary>
    public abstract DataObject Open(string file);

    /// <summary>A file's text; null if there is none.</summary>
    public string? Text(string file)
    {
        if (!Files.Contains(file))
        {
            return null;
        }

        using StreamReader reader = new(Open(file).Open());
        char[] buffer = new char[1 << 20];
        return new string(buffer, 0, reader.ReadBlock(buffer, 0, buffer.Length));
    }
}

/// <summary>A folder of this machine; hidden files and folders are left out.</summary>
internal sealed class LocalFolder : DataFolder
{
    public LocalFolder(string path)
    {
        Name = path;
        Files = [.. Directory.EnumerateFiles(path, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System })
            .Select(file => Path.GetRelativePath(path, file).Replace('\\', '/'))
            .Where(file => !file.Split('/').Any(part => part.StartsWith('.')))
            .Take(MostFiles + 1).Order(StringComparer.Ordinal)];
        if (Files.Count > MostFiles)
        {
            Throw.BadInput($"{path} has more than {MostFiles:N0} files", "that many are not read as one data set", "name a folder inside of it");
        }
    }

    public override string Name { get; }

    public override IReadOnlyList<string> Files { get; }

    public override DataObject Open(string file) => new LocalObject(Path.Combine(Name, file));
}
