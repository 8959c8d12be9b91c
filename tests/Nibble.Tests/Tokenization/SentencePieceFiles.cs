using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

/// <summary>Writes SentencePiece models, good ones and bad ones.</summary>
internal static class SentencePieceFiles
{
    /// <summary>A field of bytes.</summary>
    public static byte[] Field(int number, ReadOnlySpan<byte> value) => [.. Varint((ulong)((number << 3) | 2)), .. Varint((ulong)value.Length), .. value];

    /// <summary>A field of a whole number.</summary>
    public static byte[] Field(int number, ulong value) => [.. Varint((ulong)(number << 3)), .. Varint(value)];

    /// <summary>A field of a real number.</summary>
    public static byte[] Field(int number, float value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        return [.. Varint((ulong)((number << 3) | 5)), .. bytes];
    }

    public static byte[] Piece(string text, float score = 0, int type = 1) =>
        Field(1, [.. Field(1, Encoding.UTF8.GetBytes(text)), .. Field(2, score), .. Field(3, (ulong)type)]);

    /// <summary>Unknown, BOS, EOS, 256 bytes, a few characters and words: 290 pieces or so.</summary>
    public static byte[] Model(string[]? more = null, int modelType = 2, byte[]? normalizer = null)
    {
        string[] characters = ["▁", "t", "h", "e", "a", "n", "d", "o", "中"];
        string[] words = ["▁t", "he", "▁the", "an", "▁an", "▁and", "▁▁", "▁▁▁▁", "to"];
        byte[][] pieces =
        [
            Piece("<unk>", 0, 2), Piece("<s>", 0, 3), Piece("</s>", 0, 3),
            .. Enumerable.Range(0, 256).Select(value => Piece(string.Create(CultureInfo.InvariantCulture, $"<0x{value:X2}>"), 0, 6)),
            .. words.Select((word, i) => Piece(word, -i)),
            .. characters.Select((character, i) => Piece(character, -100 - i)),
            .. (more ?? []).Select((word, i) => Piece(word, -200 - i)),
        ];
        byte[] trainer = [.. Field(3, (ulong)modelType), .. Field(35, 1)];
        return [.. pieces.SelectMany(piece => piece), .. Field(2, trainer), .. Field(3, normalizer ?? Field(4, 0))];
    }

    /// <summary>The tokenizer of <see cref="Model"/>.</summary>
    public static Tokenizer Small() => Load(Model());

    public static Tokenizer Load(byte[] model)
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["tokenizer.model"], model);
        return TokenizerLoader.FromFolder(folder.Path);
    }

    private static byte[] Varint(ulong value)
    {
        List<byte> bytes = [];
        for (; value >= 0x80; value >>= 7)
        {
            bytes.Add((byte)(value | 0x80));
        }

        bytes.Add((byte)value);
        return [.. bytes];
    }
}
