using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Formats.Parquet;

/// <summary>Zstandard by the system's libzstd, where there is one.</summary>
internal static unsafe class Zstd
{
    private static readonly string[] Names = ["libzstd.so.1", "libzstd.so", "libzstd.1.dylib", "libzstd.dylib", "libzstd.dll", "zstd.dll"];
    private static readonly Lazy<(nint Decompress, nint IsError)> Library = new(Load);

    /// <summary>True if the library was found.</summary>
    public static bool IsAvailable => Library.Value.Decompress != 0;

    /// <summary>Unpacks a frame.</summary>
    /// <exception cref="NibbleException">There is no libzstd.</exception>
    public static byte[] Unpack(byte[] bytes, int size, string column)
    {
        (nint decompress, nint isError) = Library.Value;
        if (decompress == 0)
        {
            Throw.Failed(
                $"column {column} is packed by Zstandard, and this system has no libzstd",
                "looked for " + string.Join(", ", Names),
                "install it (Debian, Ubuntu: apt install libzstd1; macOS: brew install zstd), or write the file with compression snappy");
        }

        byte[] unpacked = new byte[size];
        fixed (byte* target = unpacked)
        fixed (byte* source = bytes)
        {
            nuint written = ((delegate* unmanaged<byte*, nuint, byte*, nuint, nuint>)decompress)(target, (nuint)size, source, (nuint)bytes.Length);
            if (((delegate* unmanaged<nuint, uint>)isError)(written) != 0)
            {
                throw new ParquetDamage($"a page of column {column} is a damaged Zstandard frame, or larger than it claims");
            }

            return (nuint)size == written ? unpacked : unpacked[..(int)written];
        }
    }

    private static (nint Decompress, nint IsError) Load()
    {
        foreach (string name in Names)
        {
            if (NativeLibrary.TryLoad(name, out nint library)
                && NativeLibrary.TryGetExport(library, "ZSTD_decompress", out nint decompress)
                && NativeLibrary.TryGetExport(library, "ZSTD_isError", out nint isError))
            {
                return (decompress, isError);
            }
        }

        return (0, 0);
    }
}
