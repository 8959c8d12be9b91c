using System.Text;
using Nibble.Tokenization;

namespace Nibble.Formats;

/// <summary>Writes a <c>tokenizer.model</c>: the protocol buffer of a SentencePiece BPE model, as far as tokenizing needs it.</summary>
internal static class SentencePieceWriter
{
    private const int Varint = 0, Length = 2, Fixed32 = 5;

    /// <summary>The file.</summary>
    public static byte[] Bytes(SentencePieceModel model)
    {
        using MemoryStream file = new();
        foreach (SentencePiece piece in model.Pieces)
        {
            Message(file, 1, part =>
            {
                Message(part, 1, text => text.Write(Encoding.UTF8.GetBytes(piece.Text)));
                Key(part, 2, Fixed32);
                part.Write(BitConverter.GetBytes(piece.Score));
                Number(part, 3, (int)piece.Type);
            });
        }

        Message(file, 2, trainer =>
        {
            Number(trainer, 3, model.ModelType);
            Number(trainer, 35, model.ByteFallback ? 1 : 0);
            Number(trainer, 40, Math.Max(0, model.Pieces.FindIndex(piece => piece.Type == PieceType.Unknown)));
            Number(trainer, 41, model.BosId);
            Number(trainer, 42, model.EosId);
            Number(trainer, 43, model.PadId);
        });
        Message(file, 3, normalizer =>
        {
            Message(normalizer, 1, name => name.Write("identity"u8));
            Number(normalizer, 3, model.AddDummyPrefix ? 1 : 0);
            Number(normalizer, 4, model.RemoveExtraWhitespaces ? 1 : 0);
            Number(normalizer, 5, 1);
        });
        return file.ToArray();
    }

    private static void Key(MemoryStream stream, int field, int wire) => Write(stream, ((ulong)field << 3) | (uint)wire);

    private static void Number(MemoryStream stream, int field, int value)
    {
        Key(stream, field, Varint);
        Write(stream, (ulong)(long)value);
    }

    private static void Message(MemoryStream stream, int field, Action<MemoryStream> write)
    {
        using MemoryStream part = new();
        write(part);
        Key(stream, field, Length);
        Write(stream, (ulong)part.Length);
        part.WriteTo(stream);
    }

    private static void Write(MemoryStream stream, ulong value)
    {
        for (; value >= 128; value >>= 7)
        {
            stream.WriteByte((byte)(value | 128));
        }

        stream.WriteByte((byte)value);
    }
}
