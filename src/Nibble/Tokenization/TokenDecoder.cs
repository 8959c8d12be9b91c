using System.Text;

namespace Nibble.Tokenization;

/// <summary>The bytes of every token, computed once by a chain of decoder steps, so that decoding is copying.</summary>
internal sealed class TokenDecoder
{
    private readonly int[] _offsets;
    private readonly byte[] _bytes;
    private readonly DecoderRules _rules;

    public TokenDecoder(DecoderRules rules, int size, Func<int, string?> text, Func<int, bool> isAdded)
    {
        _rules = rules;
        _offsets = new int[size + 1];
        using MemoryStream bytes = new();
        for (int id = 0; id < size; id++)
        {
            if (text(id) is string token)
            {
                bytes.Write(rules.Convert(token, isAdded(id)));
            }

            _offsets[id + 1] = checked((int)bytes.Length);
        }

        _bytes = bytes.ToArray();
    }

    /// <summary>The bytes that a token adds at a position.</summary>
    public ReadOnlySpan<byte> Bytes(int id, ref DecodePosition position)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ReadOnlySpan<byte> bytes = id < _offsets.Length - 1 ? _bytes.AsSpan(_offsets[id].._offsets[id + 1]) : [];
        bool first = position.Tokens++ == 0;
        if (first && _rules.FirstDropsSpaces)
        {
            bytes = bytes.ToArray().Where(value => value != ' ').ToArray();
        }
        else if (!first && _rules.Separator.Length > 0)
        {
            bytes = (byte[])[.. _rules.Separator, .. bytes];
        }

        return position.Inside || _rules.StripStart == 0 ? bytes : Strip(bytes, ref position);
    }

    private ReadOnlySpan<byte> Strip(ReadOnlySpan<byte> bytes, ref DecodePosition position)
    {
        ReadOnlySpan<byte> strip = _rules.StripContent;
        while (position.Stripped < _rules.StripStart && bytes.StartsWith(strip))
        {
            bytes = bytes[strip.Length..];
            position.Stripped++;
        }

        position.Inside = bytes.Length > 0 || position.Stripped == _rules.StripStart;
        return bytes;
    }
}

/// <summary>What a tokenizer's decoder does, sorted into what concerns one token and what concerns the beginning of the text.</summary>
internal sealed class DecoderRules
{
    private readonly List<Func<string, string>> _textSteps = [];

    /// <summary>GPT-2's byte alphabet.</summary>
    public static DecoderRules ByteLevel => new() { Bytes = true };

    /// <summary>SentencePiece: marks are spaces, byte tokens are bytes, and the space of the dummy prefix goes.</summary>
    public static DecoderRules SentencePiece(bool dummyPrefix)
    {
        DecoderRules rules = new() { ByteFallback = true, StripStart = dummyPrefix ? 1 : 0, StripContent = [(byte)' '] };
        rules.AddText(text => text.Replace(BpeRules.Mark, ' '));
        return rules;
    }

    /// <summary>Tokens are written in <see cref="ByteAlphabet"/>.</summary>
    public bool Bytes { get; set; }

    /// <summary>Tokens <c>&lt;0x00&gt;</c> to <c>&lt;0xFF&gt;</c> are bytes.</summary>
    public bool ByteFallback { get; set; }

    /// <summary>The first token loses all its spaces (Metaspace).</summary>
    public bool FirstDropsSpaces { get; set; }

    /// <summary>Written between tokens.</summary>
    public byte[] Separator { get; set; } = [];

    /// <summary>How many <see cref="StripContent"/> are dropped at most from the beginning of the text.</summary>
    public int StripStart { get; set; }

    /// <summary>What is dropped from the beginning of the text.</summary>
    public byte[] StripContent { get; set; } = [];

    /// <summary>Adds a step that rewrites each token.</summary>
    public void AddText(Func<string, string> step) => _textSteps.Add(step);

    /// <summary>The bytes of a token's text. An added token stands for itself.</summary>
    public byte[] Convert(string token, bool isAdded)
    {
        if (ByteFallback && ByteOf(token) is byte value)
        {
            return [value];
        }

        if (!isAdded && Bytes && ByteAlphabet.TryBytes(token) is byte[] bytes)
        {
            return bytes;
        }

        foreach (Func<string, string> step in _textSteps)
        {
            token = step(token);
        }

        return Encoding.UTF8.GetBytes(token);
    }

    private static byte? ByteOf(string token) =>
        token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
            && byte.TryParse(token.AsSpan(3, 2), System.Globalization.NumberStyles.AllowHexSpecifier, System.Globalization.CultureInfo.InvariantCulture, out byte value)
            ? value
            : null;
}
