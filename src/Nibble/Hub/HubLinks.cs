using Nibble.IO;

namespace Nibble.Hub;

/// <summary>Links and locks of the cache.</summary>
internal static class HubLinks
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <summary>Makes a path lead to a blob, by a relative link, so that the cache can be moved as a whole; where links are not to be had, the blob itself goes there.</summary>
    public static void Point(string path, string blob)
    {
        string temporary = path + "." + Guid.NewGuid().ToString("N")[..8];
        try
        {
            File.CreateSymbolicLink(temporary, Path.GetRelativePath(Path.GetDirectoryName(path)!, blob));
        }
        catch (Exception error) when (OperatingSystem.IsWindows() && error is IOException or UnauthorizedAccessException)
        {
            // Windows gives links to administrators and developers only.
            File.Move(blob, path, overwrite: true);
            return;
        }

        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Takes a lock that huggingface_hub's filelock takes too (flock on a file), and waits while another process has it.</summary>
    /// <exception cref="NibbleException">The lock's file can't be made, or is not this user's.</exception>
    public static FileStream Hold(string path, Action waits, CancellationToken cancellation)
    {
        AtomicFile.Attempt(path, 0, () => Directory.CreateDirectory(Path.GetDirectoryName(path)!));
        for (bool told = false; ; told = true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
            }
            catch (IOException) when (File.Exists(path))
            {
                if (!told)
                {
                    waits();
                }
            }

            catch (UnauthorizedAccessException error)
            {
                throw new NibbleException(ErrorKind.Resource, $"{path} can't be locked", error.Message, "check its owner and mode, or set HF_HUB_CACHE to a folder of your own", error);
            }

            cancellation.WaitHandle.WaitOne(Pause);
            cancellation.ThrowIfCancellationRequested();
        }
    }
}
