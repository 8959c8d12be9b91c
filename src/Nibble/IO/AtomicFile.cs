using Microsoft.Win32.SafeHandles;

namespace Nibble.IO;

/// <summary>
/// The only way to create a file that outlives the process: the bytes go to a temporary name in the same folder and are
/// synchronized with the disk; <see cref="Commit"/> renames the file and synchronizes the folder. A reader sees the old file or
/// the whole new one, never a part. Without <see cref="Commit"/> the temporary file is deleted.
/// </summary>
public sealed class AtomicFile : IDisposable
{
    private readonly string _temporary;
    private readonly FileStream _stream;
    private bool _done;

    private AtomicFile(string path, string temporary, FileStream stream)
    {
        Path = path;
        _temporary = temporary;
        _stream = stream;
    }

    /// <summary>Where the file will stand after <see cref="Commit"/>.</summary>
    public string Path { get; }

    /// <summary>The file being written; errors of the disk are thrown as they come (see <see cref="Write"/> for named ones).</summary>
    public Stream Stream => _stream;

    /// <summary>The handle of the temporary file, for positioned writes.</summary>
    internal SafeFileHandle Handle => _stream.SafeFileHandle;

    /// <summary>Starts a file. Leftovers of killed writers of the same target are removed first.</summary>
    /// <param name="path">The target; its folder must exist.</param>
    /// <param name="expectedBytes">Space to reserve at once, so that a disk that is too small is found before the work.</param>
    public static AtomicFile Create(string path, long expectedBytes = 0)
    {
        string target = System.IO.Path.GetFullPath(path);
        string folder = System.IO.Path.GetDirectoryName(target) ?? throw new ArgumentException($"'{path}' is not a file's path", nameof(path));
        if (!Directory.Exists(folder))
        {
            Throw.NotFound($"cannot write {path}", $"the folder {folder} does not exist", "create the folder first");
        }

        if (Directory.Exists(target))
        {
            Throw.Usage($"cannot write {path}", "it is a folder", "name a file");
        }

        Temporary.RemoveLeftovers(target);
        FileStreamOptions options = new()
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            Share = FileShare.None,
            BufferSize = 1 << 16,
            PreallocationSize = expectedBytes,
        };
        FileStream stream = Attempt(path, expectedBytes, () => Temporary.Claim(target, name => new FileStream(name, options), name => name));
        return new AtomicFile(path, stream.Name, stream);
    }

    /// <summary>Writes a whole file at once.</summary>
    public static void WriteAllBytes(string path, ReadOnlySpan<byte> bytes)
    {
        using AtomicFile file = Create(path, bytes.Length);
        file.Write(bytes);
        file.Commit();
    }

    /// <summary>Writes a whole text at once, as UTF-8 without a byte order mark.</summary>
    public static void WriteAllText(string path, string text) => WriteAllBytes(path, System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>Copies a file under a new name.</summary>
    public static void Copy(string source, string path)
    {
        using FileStream input = new(source, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        using AtomicFile file = Create(path, input.Length);
        Attempt(path, input.Length, () => input.CopyTo(file._stream));
        file.Commit();
    }

    /// <summary>Appends bytes; a full disk or a missing permission becomes an error that names the file and the bytes.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        try
        {
            _stream.Write(bytes);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            Refuse(Path, bytes.Length, error);
        }
    }

    /// <summary>Synchronizes the bytes with the disk and gives the file its name.</summary>
    public void Commit()
    {
        ObjectDisposedException.ThrowIf(_done, this);
        Attempt(Path, _stream.Length, () =>
        {
            _stream.Flush(flushToDisk: true);
            string target = System.IO.Path.GetFullPath(Path);
            if (OperatingSystem.IsWindows())
            {
                // Windows renames only what nobody has open; elsewhere the open handle keeps cleaners away until the end.
                _stream.Dispose();
            }

            File.Move(_temporary, target, overwrite: true);
            _done = true;
            _stream.Dispose();
            FolderSync.Flush(System.IO.Path.GetDirectoryName(target)!);
        });
    }

    /// <summary>Deletes the temporary file unless <see cref="Commit"/> was called.</summary>
    public void Dispose()
    {
        if (_done)
        {
            return;
        }

        _done = true;
        try
        {
            _stream.Dispose();
        }
        catch (IOException)
        {
            // The buffered rest did not fit on the disk; the file is thrown away anyway.
        }

        File.Delete(_temporary);
    }

    internal static void Attempt(string path, long bytes, Action action) => Attempt(path, bytes, () =>
    {
        action();
        return 0;
    });

    internal static T Attempt<T>(string path, long bytes, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            Refuse(path, bytes, error);
            throw;
        }
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    internal static void Refuse(string path, long bytes, Exception error)
    {
        string need = bytes > 0 ? $" ({bytes:N0} bytes needed{FreeSpace(path)})" : string.Empty;
        string remedy = error switch
        {
            UnauthorizedAccessException => "change the permissions of the folder, or choose another output",
            FileNotFoundException or DirectoryNotFoundException => "nothing can be created there: choose another output",
            _ => "free space on the disk, or choose another output",
        };
        Throw.Resource($"cannot write {path}{need}", error.Message, remedy, error);
    }

    /// <summary>Bytes that the disk of a file has left; null where the system does not say (shares of Windows).</summary>
    internal static long? FreeBytes(string path)
    {
        try
        {
            string full = System.IO.Path.GetFullPath(path);
            return new DriveInfo(System.IO.Path.GetDirectoryName(full) ?? full).AvailableFreeSpace;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    private static string FreeSpace(string path) => FreeBytes(path) is { } free ? $", {free:N0} free" : string.Empty;
}
