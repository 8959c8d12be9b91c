using System.Security.Cryptography;
using System.Text;

namespace Nibble.Runs.Studies;

/// <summary>
/// Tells whether a model folder is still the same: names, lengths and times of all files, and the beginning of each (for weights
/// the header). Hashing gigabytes of weights would take longer than many a cell.
/// </summary>
internal static class ModelFingerprint
{
    private const int Beginning = 1 << 20;

    public static string Of(string path)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[Beginning];
        string[] files = Directory.Exists(path)
            ? [.. Directory.EnumerateFiles(path).Order(StringComparer.Ordinal)]
            : [path];
        foreach (string file in files)
        {
            // By the handle: a FileInfo of a link (folders of the Hugging Face cache) tells the link's size and time.
            using FileStream stream = File.OpenRead(file);
            hash.AppendData(Encoding.UTF8.GetBytes($"{Path.GetFileName(file)}\n{stream.Length}\n{File.GetLastWriteTimeUtc(stream.SafeFileHandle).Ticks}\n"));
            hash.AppendData(buffer.AsSpan(0, stream.ReadAtLeast(buffer, Beginning, throwOnEndOfStream: false)));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
