using System.IO.Compression;
using Nibble.IO;

namespace Nibble.Formats.Parquet;

/// <summary>Unpacks pages. The size is known before: nothing grows beyond it.</summary>
internal static class PageCodec
{
    /// <summary>Unpacks to exactly <paramref name="size"/> bytes.</summary>
    public static ReadOnlyMemory<byte> Unpack(int codec, byte[] bytes, int size, string column)
    {
        if (size == 0 && codec != 0)
        {
            return ReadOnlyMemory<byte>.Empty;
        }

        byte[] unpacked = codec switch
        {
            0 => bytes,
            1 => Snappy(bytes, size, column),
            2 => Stream(stream => new GZipStream(stream, CompressionMode.Decompress), bytes, size, column),
            4 => Stream(stream => new BrotliStream(stream, CompressionMode.Decompress), bytes, size, column),
            6 => Zstd.Unpack(bytes, size, column),
            _ => throw new ParquetDamage($"column {column} is packed by {(codec == 3 ? "LZO" : "LZ4")}, which is not read"),
        };
        return unpacked.Length == size ? unpacked : throw new ParquetDamage($"a page of column {column} has {unpacked.Length:N0} bytes, not the {size:N0} that it claims");
    }

    private static byte[] Snappy(byte[] bytes, int size, string column)
    {
        // The block says its own size first; the library would allocate whatever stands there.
        long claimed = 0;
        int at = 0;
        do
        {
            claimed |= at < bytes.Length && at < 5 ? (long)(bytes[at] & 127) << (7 * at) : throw new ParquetDamage($"a page of column {column} is no Snappy block");
        }
        while (bytes[at++] > 127);

        if (claimed != size)
        {
            throw new ParquetDamage($"a page of column {column} has {claimed:N0} bytes, not the {size:N0} that it claims");
        }

        try
        {
            return IronSnappy.Snappy.Decode(bytes);
        }
        catch (Exception error) when (error is IOException or InvalidDataException or IndexOutOfRangeException or ArgumentException)
        {
            throw new ParquetDamage($"a page of column {column} is a damaged Snappy block: {error.Message}");
        }
    }

    private static byte[] Stream(Func<Stream, Stream> open, byte[] bytes, int size, string column)
    {
        byte[] unpacked = new byte[size];
        try
        {
            using Stream stream = open(new MemoryStream(bytes));
            int read = stream.ReadAtLeast(unpacked, size, throwOnEndOfStream: false);
            return read == size ? unpacked : unpacked[..read];
        }
        catch (Exception error) when (error is InvalidDataException or InvalidOperationException)
        {
            throw new ParquetDamage($"a page of column {column} is damaged: {error.Message}");
        }
    }
}
