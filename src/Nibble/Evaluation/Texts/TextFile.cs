using System.IO.Compression;
using System.Text;
using Nibble.IO;

namespace Nibble.Evaluation.Texts;

/// <summary>Reads files of text: plain or gzip, whole; always strict UTF-8.</summary>
public static class TextFile
{
    /// <summary>The name without <c>.gz</c>.</summary>
    public static string PlainName(string path)
    {
        string name = Path.GetFileName(path);
        return name.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? name[..^3] : name;
    }

    /// <summary>Reads a whole file as it is, but for a byte order mark.</summary>
    public static string Read(string path, Limits limits)
    {
        byte[] bytes = ReadBytes(path, limits);
        ReadOnlySpan<byte> text = bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? bytes.AsSpan(3) : bytes;
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(text);
        }
        catch (DecoderFallbackException error)
        {
            Throw.BadInput($"{path} is no text in UTF-8", $"byte {error.Index:N0} cannot be decoded", "convert it to UTF-8, or name another file", error);
            return string.Empty;
        }
    }

    private static byte[] ReadBytes(string path, Limits limits)
    {
        using FileStream file = File.OpenRead(path);
        bool packed = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
        using Stream stream = packed ? new GZipStream(file, CompressionMode.Decompress) : file;
        using MemoryStream memory = new(packed ? 0 : (int)Math.Min(file.Length, int.MaxValue / 2));
        byte[] buffer = new byte[1 << 16];
        try
        {
            for (int read = stream.Read(buffer); read > 0; read = stream.Read(buffer))
            {
                // A string holds at most 2^30 characters; a larger text is to be cut by its owner.
                if (memory.Length + read > Math.Min(limits.TextBytes, 1L << 30))
                {
                    Throw.BadInput($"{path} is too large to be read as one text", $"it has more than {memory.Length:N0} bytes", "cut it into files of less than 1 GB");
                }

                memory.Write(buffer, 0, read);
            }
        }
        catch (InvalidDataException error)
        {
            Throw.BadInput($"{path} is damaged", error.Message, "it should be a gzip file: download it again", error);
        }

        return memory.ToArray();
    }
}
