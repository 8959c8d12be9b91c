using System.Globalization;
using System.Security.Cryptography;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>
/// Tells large files apart without reading all of them: by length, both ends, the beginning of every tensor, and pages spread over the rest. Two
/// tunings of one model agree in size and header, and where tools set all times alike, in time. What a training changes it changes nearly
/// everywhere in a tensor, but perhaps in a few tensors only: so every tensor has a page, and large ones have several.
/// </summary>
internal static class FileSample
{
    // Up to here files are read whole.
    private const long MostWhole = 1 << 20;

    private const int EndBytes = 64 << 10;

    private const int PageBytes = 4 << 10;

    // Pages between: at least so many, and one for so many bytes. 13 GB are 400 pages and some hundred tensors: 3 MB.
    private const int LeastPages = 64;

    private const long BytesPerPage = 32 << 20;

    /// <summary>The sample of a file as text.</summary>
    public static string Of(string path)
    {
        using FileStream file = Open(path);
        return Of(path, file, MostWhole);
    }

    /// <summary>The same with the file's name and the time of its last change; files of up to <paramref name="mostWhole"/> bytes are read whole.</summary>
    public static string WithTime(string path, long mostWhole = MostWhole)
    {
        // By its handle: a FileInfo of a link (folders of the Hugging Face cache) tells the link's size and time.
        using FileStream file = Open(path);
        return string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileName(path)} {File.GetLastWriteTimeUtc(file.SafeFileHandle).Ticks} {Of(path, file, mostWhole)}");
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0, FileOptions.RandomAccess);

    private static string Of(string path, FileStream file, long mostWhole)
    {
        long length = file.Length;
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[1 << 20];
        // In order of their places: a disk then goes one way.
        foreach ((long at, long bytes) in length <= mostWhole ? [(0L, length)] : Places(path, length).Order().ToArray())
        {
            file.Position = at;
            for (long left = bytes; left > 0;)
            {
                int read = file.ReadAtLeast(buffer.AsSpan(0, (int)Math.Min(left, buffer.Length)), 1, throwOnEndOfStream: false);
                hash.AppendData(buffer, 0, read);
                left = read == 0 ? 0 : left - read;
            }
        }

        return string.Create(CultureInfo.InvariantCulture, $"{length} {Convert.ToHexStringLower(hash.GetHashAndReset())}");
    }

    private static IEnumerable<(long At, long Bytes)> Places(string path, long length)
    {
        yield return (0, EndBytes);
        yield return (length - EndBytes, EndBytes);
        long pages = Math.Max(LeastPages, length / BytesPerPage);
        for (long i = 1; i <= pages; i++)
        {
            yield return (length / (pages + 1) * i / PageBytes * PageBytes, PageBytes);
        }

        foreach ((long at, long bytes) in Tensors(path))
        {
            yield return (at, Math.Min(bytes, PageBytes));
        }
    }

    private static IReadOnlyList<(long At, long Bytes)> Tensors(string path)
    {
        try
        {
            if (path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase))
            {
                using SafetensorsFile file = SafetensorsFile.Open(path);
                return [.. file.Entries.Values.Select(entry => (entry.Offset, entry.ByteLength))];
            }

            if (GgufFile.Names(path))
            {
                using GgufFile file = GgufFile.Open(path);
                return [.. file.Tensors.Select(entry => (entry.Offset, entry.ByteLength))];
            }
        }
        catch (NibbleException)
        {
            // A damaged file is told by whoever reads its tensors, and not by who asks whether it is still the same.
        }

        return [];
    }
}
