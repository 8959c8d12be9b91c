using System.Globalization;
using System.Security.Cryptography;

namespace Nibble.Formats;

/// <summary>
/// Tells large files apart without reading all of them: by length, both ends, and pages spread over the rest. Two tunings of one model agree in
/// size and header, and where tools set all times alike, in time: the pages between tell them apart.
/// </summary>
internal static class FileSample
{
    // Up to here files are read whole.
    private const int MostWhole = 1 << 20;

    private const int EndBytes = 64 << 10;

    private const int PageBytes = 4 << 10;

    private const int Pages = 64;

    /// <summary>The sample of a file as text.</summary>
    public static string Of(string path)
    {
        using FileStream file = Open(path);
        return Of(file);
    }

    /// <summary>The same with the file's name and the time of its last change.</summary>
    public static string WithTime(string path)
    {
        // By its handle: a FileInfo of a link (folders of the Hugging Face cache) tells the link's size and time.
        using FileStream file = Open(path);
        return string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileName(path)} {File.GetLastWriteTimeUtc(file.SafeFileHandle).Ticks} {Of(file)}");
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0, FileOptions.RandomAccess);

    private static string Of(FileStream file)
    {
        long length = file.Length;
        byte[] buffer = new byte[length <= MostWhole ? length : EndBytes];
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(0, buffer.Length);
        if (length > MostWhole)
        {
            for (long i = 1; i <= Pages; i++)
            {
                Add(length / (Pages + 1) * i / PageBytes * PageBytes, PageBytes);
            }

            Add(length - EndBytes, EndBytes);
        }

        return string.Create(CultureInfo.InvariantCulture, $"{length} {Convert.ToHexStringLower(hash.GetHashAndReset())}");

        void Add(long at, int most)
        {
            file.Position = at;
            hash.AppendData(buffer, 0, file.ReadAtLeast(buffer.AsSpan(0, most), most, throwOnEndOfStream: false));
        }
    }
}
