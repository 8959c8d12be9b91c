using System.Text;

namespace Nibble.Tokenization;

/// <summary>Decodes tokens one at a time as they are generated. It holds back bytes until they are complete UTF-8.</summary>
public sealed class TokenStreamDecoder
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _skipSpecialTokens;
    private readonly Decoder _utf8 = Encoding.UTF8.GetDecoder();
    private DecodePosition _position;

    internal TokenStreamDecoder(Tokenizer tokenizer, bool skipSpecialTokens)
    {
        _tokenizer = tokenizer;
        _skipSpecialTokens = skipSpecialTokens;
    }

    /// <summary>Adds a token and returns the text that is complete now: often one word, empty inside of a character.</summary>
    public string Add(int id) =>
        _skipSpecialTokens && _tokenizer.IsSpecial(id) ? string.Empty : Convert(_tokenizer.Bytes(id, ref _position), flush: false);

    /// <summary>Ends the text: what is left of an incomplete character becomes U+FFFD.</summary>
    public string Flush() => Convert([], flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> small = stackalloc char[256];
        int most = bytes.Length + 4;
        Span<char> chars = most <= small.Length ? small : new char[most];
        return new string(chars[.._utf8.GetChars(bytes, chars, flush)]);
    }
}
