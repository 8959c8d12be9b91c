using Microsoft.Win32.SafeHandles;

namespace Nibble.IO;

/// <summary>Sizes of files that may be links, as all files of the Hugging Face cache are: <see cref="FileInfo"/> tells the size of the link itself.</summary>
internal static class FileSize
{
    /// <summary>Bytes of the file that a path leads to.</summary>
    public static long Of(string path)
    {
        using SafeFileHandle handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        return RandomAccess.GetLength(handle);
    }
}
