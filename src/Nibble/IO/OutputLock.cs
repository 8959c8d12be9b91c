namespace Nibble.IO;

/// <summary>
/// Keeps other processes from an output that is written over a long time, as that of a training: a file beside it that is held open, so
/// that a process that is killed lets go of it.
/// </summary>
internal sealed class OutputLock : IDisposable
{
    private readonly FileStream _held;

    private OutputLock(FileStream held) => _held = held;

    /// <summary>Takes the lock.</summary>
    /// <exception cref="NibbleException">Another process has it.</exception>
    public static OutputLock Hold(string output)
    {
        string target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(output)), folder = Path.GetDirectoryName(target) ?? target;
        string path = Path.Combine(folder, $".{Path.GetFileName(target)}.nibble-lock");
        return AtomicFile.Attempt(output, 0, () =>
        {
            Directory.CreateDirectory(folder);
            try
            {
                return new OutputLock(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose));
            }
            catch (IOException error) when (error is not (DirectoryNotFoundException or PathTooLongException) && File.Exists(path))
            {
                throw new NibbleException(ErrorKind.Resource, $"{output} is being written by another process", error.Message, "wait for it, or choose another output", error);
            }
        });
    }

    /// <summary>Lets go of it.</summary>
    public void Dispose() => _held.Dispose();
}
