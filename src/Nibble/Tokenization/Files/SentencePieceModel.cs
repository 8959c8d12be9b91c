using System.Text;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Kinds of SentencePiece's pieces, with its numbers (GGUF uses the same).</summary>
internal enum PieceType
{
    /// <summary>Text.</summary>
    Normal = 1,

    /// <summary>The unknown token.</summary>
    Unknown = 2,

    /// <summary>BOS, EOS and the like.</summary>
    Control = 3,

    /// <summary>Text that is never cut.</summary>
    UserDefined = 4,

    /// <summary>Kept out of use.</summary>
    Unused = 5,

    /// <summary>One byte, <c>&lt;0x00&gt;</c> to <c>&lt;0xFF&gt;</c>.</summary>
    Byte = 6,
}

/// <summary>One entry of a SentencePiece vocabulary.</summary>
internal readonly record struct SentencePiece(string Text, float Score, PieceType Type);

/// <summary>What a SentencePiece model file says, as far as BPE needs it.</summary>
internal sealed class SentencePieceModel
{
    /// <summary>The pieces; the place is the id.</summary>
    public List<SentencePiece> Pieces { get; } = [];

    /// <summary>1 Unigram (the format's default), 2 BPE, 3 words, 4 characters.</summary>
    public int ModelType { get; set; } = 1;

    /// <summary>Unknown characters become bytes.</summary>
    public bool ByteFallback { get; set; }

    /// <summary>A space in front of every text.</summary>
    public bool AddDummyPrefix { get; set; } = true;

    /// <summary>Runs of spaces become one.</summary>
    public bool RemoveExtraWhitespaces { get; set; } = true;

    /// <summary>Spaces become marks.</summary>
    public bool EscapeWhitespaces { get; set; } = true;

    /// <summary>The mark stands behind a word.</summary>
    public bool WhitespaceAsSuffix { get; set; }

    /// <summary>A compiled character map (NFKC and the like).</summary>
    public bool HasCharacterMap { get; set; }

    /// <summary>Id of BOS; −1 for none.</summary>
    public int BosId { get; set; } = 1;

    /// <summary>Id of EOS; −1 for none.</summary>
    public int EosId { get; set; } = 2;

    /// <summary>Id of padding; −1 for none.</summary>
    public int PadId { get; set; } = -1;

    /// <summary>Reads the protocol buffer.</summary>
    public static SentencePieceModel Parse(ReadOnlySpan<byte> bytes, string source, Limits limits)
    {
        SentencePieceModel model = new();
        ProtobufReader reader = new(bytes, source);
        while (reader.Next(out int field))
        {
            switch (field)
            {
                case 1:
                    if (model.Pieces.Count == limits.VocabularyEntries)
                    {
                        Throw.BadInput($"{source} has too many pieces", $"at most {limits.VocabularyEntries:N0} are read");
                    }

                    model.Pieces.Add(Piece(reader.Bytes(), source, model.Pieces.Count));
                    break;
                case 2:
                    model.Trainer(reader.Bytes(), source);
                    break;
                case 3:
                    model.Normalizer(reader.Bytes(), source);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return model;
    }

    private static SentencePiece Piece(ReadOnlySpan<byte> bytes, string source, int id)
    {
        ProtobufReader reader = new(bytes, source);
        string text = string.Empty;
        float score = 0;
        PieceType type = PieceType.Normal;
        while (reader.Next(out int field))
        {
            switch (field)
            {
                case 1:
                    text = Text(reader.Bytes(), source, id);
                    break;
                case 2:
                    score = reader.Real();
                    break;
                case 3:
                    type = (PieceType)(int)Math.Min(reader.Number(), int.MaxValue);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return new SentencePiece(text, score, type);
    }

    private static string Text(ReadOnlySpan<byte> bytes, string source, int id)
    {
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
        {
            Throw.BadInput($"{source}: piece {id} is no valid UTF-8", remedy: "download the file again");
        }

        return Encoding.UTF8.GetString(bytes);
    }

    private void Trainer(ReadOnlySpan<byte> bytes, string source)
    {
        ProtobufReader reader = new(bytes, source);
        while (reader.Next(out int field))
        {
            switch (field)
            {
                case 3:
                    ModelType = (int)Math.Min(reader.Number(), int.MaxValue);
                    break;
                case 24:
                    WhitespaceAsSuffix = reader.Flag();
                    break;
                case 35:
                    ByteFallback = reader.Flag();
                    break;
                case 41:
                    BosId = (int)reader.Number();
                    break;
                case 42:
                    EosId = (int)reader.Number();
                    break;
                case 43:
                    PadId = (int)reader.Number();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
    }

    private void Normalizer(ReadOnlySpan<byte> bytes, string source)
    {
        ProtobufReader reader = new(bytes, source);
        while (reader.Next(out int field))
        {
            switch (field)
            {
                case 2:
                    HasCharacterMap = !reader.Bytes().IsEmpty;
                    break;
                case 3:
                    AddDummyPrefix = reader.Flag();
                    break;
                case 4:
                    RemoveExtraWhitespaces = reader.Flag();
                    break;
                case 5:
                    EscapeWhitespaces = reader.Flag();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
    }
}
