using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>Reads the header of a GGUF file from front to back; every length is checked against what is left of the file.</summary>
internal sealed class GgufCursor(MappedFile map)
{
    /// <summary>The longest string that the reference implementation takes.</summary>
    private const ulong LongestString = 1UL << 30;

    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The next byte.</summary>
    public nint At { get; set; }

    /// <summary>Bytes behind <see cref="At"/>.</summary>
    public nint Left => map.ByteLength - At;

    /// <summary>The file's path.</summary>
    public string Path => map.Path;

    public uint U32(string what) => BinaryPrimitives.ReadUInt32LittleEndian(Take(4, what));

    public ulong U64(string what) => BinaryPrimitives.ReadUInt64LittleEndian(Take(8, what));

    public ReadOnlySpan<byte> Take(int length, string what)
    {
        if (length > Left)
        {
            Refuse($"the file ends inside {what}", $"{length:N0} bytes are needed at byte {At:N0}, {Left:N0} are left", "the download is incomplete: download the file again");
        }

        ReadOnlySpan<byte> bytes = map.Span(At, length);
        At += length;
        return bytes;
    }

    /// <summary>A string.</summary>
    public string Text(string what)
    {
        ReadOnlySpan<byte> bytes = Take(TextLength(what), what);
        return Decode(bytes, what);
    }

    /// <summary>Steps over strings without looking at them; a vocabulary has hundreds of thousands.</summary>
    public unsafe void SkipTexts(long count, string what)
    {
        byte* start = map.Pointer;
        for (long i = 0; i < count; i++)
        {
            ulong length = Left < sizeof(ulong) ? ulong.MaxValue : BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(start + At, sizeof(ulong)));
            if (length > LongestString || length > (ulong)(Left - sizeof(ulong)))
            {
                // The slow way finds the same mistake, and has the words for it.
                _ = TextLength(what);
            }

            At += sizeof(ulong) + (nint)length;
        }
    }

    /// <summary>The text of bytes, which must be valid UTF-8.</summary>
    public string Decode(ReadOnlySpan<byte> bytes, string what)
    {
        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException error)
        {
            Refuse($"{what} is no UTF-8 text", error.Message);
            throw;
        }
    }

    [DoesNotReturn]
    public void Refuse(string what, string? why = null, string? remedy = null) => Throw.BadInput($"{map.Path}: {what}", why, remedy);

    private int TextLength(string what)
    {
        ulong length = U64($"the length of {what}");
        if (length > LongestString || length > (ulong)Left)
        {
            Refuse($"{what} has {length:N0} bytes", $"at byte {At:N0} only {Left:N0} are left, and at most {LongestString:N0} are read", "the file is damaged: download it again");
        }

        return (int)length;
    }
}
