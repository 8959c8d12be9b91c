namespace Nibble.Tokenization;

/// <summary>A byte-pair vocabulary with its merges and options.</summary>
internal sealed record BpeRules(Vocabulary Vocabulary, MergeTable Merges)
{
    /// <summary>SentencePiece's sign for a space, U+2581.</summary>
    public const char Mark = '▁';

    /// <summary><see cref="Mark"/> as a text.</summary>
    public const string MarkText = "▁";

    /// <summary>Pieces are UTF-8 bytes, written in <see cref="ByteAlphabet"/>; otherwise characters.</summary>
    public bool Bytes { get; init; }

    /// <summary>An unknown character becomes its bytes <c>&lt;0x00&gt;</c> to <c>&lt;0xFF&gt;</c>.</summary>
    public bool ByteFallback { get; init; }

    /// <summary>A piece that is a token as a whole is not merged from its parts.</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>The token for what has no symbol.</summary>
    public int? UnknownId { get; init; }

    /// <summary>Neighbouring unknown characters become one token.</summary>
    public bool FuseUnknown { get; init; }
}
