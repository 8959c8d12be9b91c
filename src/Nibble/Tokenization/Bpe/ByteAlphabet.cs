namespace Nibble.Tokenization;

/// <summary>
/// GPT-2's alphabet: every byte has a visible character, so that a vocabulary of bytes can be written as text. Printable
/// Latin-1 stands for itself, the other 68 bytes for U+0100 onwards (a space is <c>Ġ</c>).
/// </summary>
internal static class ByteAlphabet
{
    private const int Highest = 0x143;

    private static readonly char[] Chars = MakeChars();
    private static readonly short[] Bytes = MakeBytes();

    /// <summary>The character that stands for a byte.</summary>
    public static char CharOf(byte value) => Chars[value];

    /// <summary>The byte that a character stands for, or −1.</summary>
    public static int ByteOf(char value) => value <= Highest ? Bytes[value] : -1;

    /// <summary>The bytes of a token's text, or null if a character stands for no byte.</summary>
    public static byte[]? TryBytes(ReadOnlySpan<char> text)
    {
        byte[] bytes = new byte[text.Length];
        for (int i = 0; i < text.Length; i++)
        {
            int value = ByteOf(text[i]);
            if (value < 0)
            {
                return null;
            }

            bytes[i] = (byte)value;
        }

        return bytes;
    }

    /// <summary>Writes bytes as a token's text.</summary>
    public static string TextOf(ReadOnlySpan<byte> bytes)
    {
        char[] text = new char[bytes.Length];
        for (int i = 0; i < text.Length; i++)
        {
            text[i] = Chars[bytes[i]];
        }

        return new string(text);
    }

    private static char[] MakeChars()
    {
        char[] chars = new char[256];
        int next = 0x100;
        for (int value = 0; value < 256; value++)
        {
            bool visible = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or >= 0xAE;
            chars[value] = visible ? (char)value : (char)next++;
        }

        return chars;
    }

    private static short[] MakeBytes()
    {
        short[] bytes = new short[Highest + 1];
        Array.Fill(bytes, (short)-1);
        for (int value = 0; value < 256; value++)
        {
            bytes[Chars[value]] = (short)value;
        }

        return bytes;
    }
}
