using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>Text ↔ token ids. Instances are immutable to the caller and may be used from several threads at once.</summary>
public abstract class Tokenizer
{
    /// <summary>Largest id + 1, added tokens included. A model's embedding may have more rows (padding), never fewer.</summary>
    public abstract int VocabularySize { get; }

    /// <summary>The token that begins a text, where the vocabulary has one.</summary>
    public abstract int? BosId { get; }

    /// <summary>The token that ends a text; the first of <see cref="EosIds"/>.</summary>
    public int? EosId => EosIds.Count > 0 ? EosIds[0] : null;

    /// <summary>Every token at which generation stops.</summary>
    public abstract IReadOnlyList<int> EosIds { get; }

    /// <summary>The token that fills rows of a batch, where the vocabulary has one.</summary>
    public abstract int? PadId { get; }

    /// <summary>True if <see cref="Encode(string, bool)"/> puts <see cref="BosId"/> in front of a text.</summary>
    public abstract bool AddsBos { get; }

    /// <summary>SHA-256 in hexadecimal digits of vocabulary, merges and added tokens: two numbers compare only if it is equal.</summary>
    public abstract string Fingerprint { get; }

    /// <summary>A token's own text as the vocabulary writes it (<c>Ġthe</c>, <c>▁the</c>, <c>&lt;0x0A&gt;</c>), or null for an unused id.</summary>
    public abstract string? TokenText(int id);

    /// <summary>The id of a token by its own text, or null.</summary>
    public abstract int? TokenId(string text);

    /// <summary>True for control tokens such as BOS, which are no part of a text.</summary>
    public abstract bool IsSpecial(int id);

    /// <summary>Tokenizes a text.</summary>
    /// <param name="text">Any text; a lone surrogate counts as U+FFFD.</param>
    /// <param name="addSpecialTokens">Adds BOS and the like where the tokenizer does so.</param>
    public int[] Encode(string text, bool addSpecialTokens = true)
    {
        List<int> ids = new((text.Length / 4) + 4);
        Encode(text, ids, addSpecialTokens);
        return [.. ids];
    }

    /// <summary>Tokenizes a text and appends the ids to <paramref name="output"/>.</summary>
    public abstract void Encode(ReadOnlySpan<char> text, List<int> output, bool addSpecialTokens = true);

    /// <summary>The text of tokens; bytes that are no valid UTF-8 become U+FFFD.</summary>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        ArrayBufferWriter<byte> bytes = new(Math.Max(16, ids.Length * 4));
        DecodeBytes(ids, bytes, skipSpecialTokens);
        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    /// <summary>The exact bytes of tokens.</summary>
    public byte[] DecodeToBytes(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        ArrayBufferWriter<byte> bytes = new(Math.Max(16, ids.Length * 4));
        DecodeBytes(ids, bytes, skipSpecialTokens);
        return bytes.WrittenSpan.ToArray();
    }

    /// <summary>Writes the exact bytes of tokens and returns their number. An id without a token has no bytes.</summary>
    public int DecodeBytes(ReadOnlySpan<int> ids, IBufferWriter<byte> output, bool skipSpecialTokens = false)
    {
        DecodePosition position = default;
        int written = 0;
        foreach (int id in ids)
        {
            if (skipSpecialTokens && IsSpecial(id))
            {
                continue;
            }

            ReadOnlySpan<byte> piece = Bytes(id, ref position);
            output.Write(piece);
            written += piece.Length;
        }

        return written;
    }

    /// <summary>Starts to decode a text token by token.</summary>
    public TokenStreamDecoder Stream(bool skipSpecialTokens = true) => new(this, skipSpecialTokens);

    /// <summary>The bytes that one token adds to a text.</summary>
    internal abstract ReadOnlySpan<byte> Bytes(int id, ref DecodePosition position);
}

/// <summary>What decoding must remember between two tokens: whether it stands at the beginning, where spaces are dropped.</summary>
[StructLayout(LayoutKind.Auto)]
internal struct DecodePosition
{
    /// <summary>Tokens seen.</summary>
    public int Tokens;

    /// <summary>Characters dropped from the beginning so far.</summary>
    public int Stripped;

    /// <summary>True once a character was kept.</summary>
    public bool Inside;
}
