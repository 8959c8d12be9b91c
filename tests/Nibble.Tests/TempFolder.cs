namespace Nibble.Tests;

/// <summary>A folder that a test may fill; it is gone afterwards.</summary>
internal sealed class TempFolder : IDisposable
{
    private const string Prefix = "nibble-test-";

    // What tests write need not outlive a power cut: in memory nobody waits for a disk, which thousands of files would be flushed to.
    private const string Memory = "/dev/shm";

    private const long LeastMemory = 4L << 30;

    private static readonly Lazy<string> Parent = new(Choose);

    public TempFolder() => Path = Directory.CreateDirectory(System.IO.Path.Combine(Parent.Value, $"{Prefix}{Guid.NewGuid():N}")).FullName;

    public string Path { get; }

    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>Names of all entries, hidden ones too.</summary>
    public string[] Entries => Directory.EnumerateFileSystemEntries(Path).Select(entry => System.IO.Path.GetFileName(entry)).Order(StringComparer.Ordinal).ToArray();

    public void Dispose() => Directory.Delete(Path, recursive: true);

    private static string Choose()
    {
        try
        {
            if (Directory.Exists(Memory) && new DriveInfo(Memory).AvailableFreeSpace >= LeastMemory)
            {
                // Runs that were killed left theirs.
                Array.ForEach([.. Directory.GetDirectories(Memory, Prefix + "*").Where(folder => Directory.GetLastWriteTimeUtc(folder) < DateTime.UtcNow.AddDays(-1))], folder => Directory.Delete(folder, recursive: true));
                Directory.CreateDirectory(System.IO.Path.Combine(Memory, Prefix + Environment.ProcessId)).Delete();
                return Memory;
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
        }

        return System.IO.Path.GetTempPath();
    }
}
