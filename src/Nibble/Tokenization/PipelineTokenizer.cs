using System.Collections.Concurrent;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Everything that makes a tokenizer, read from whatever form of file.</summary>
internal sealed record TokenizerParts(BpeRules Rules, PieceStep Splitter, DecoderRules Decoder, SpecialTokens Specials)
{
    /// <summary>Tokens that are found in the text first.</summary>
    public IReadOnlyList<AddedToken> Added { get; init; } = [];

    /// <summary>Changes the text before it is cut.</summary>
    public Normalizer? Normalizer { get; init; }
}

/// <summary>What is put around a text, and the tokens with a role.</summary>
internal sealed record SpecialTokens(int? Bos, IReadOnlyList<int> Eos, int? Pad, int[] Prefix, int[] Suffix);

/// <summary>Added tokens, normalizer, splitting, byte-pair encoding: one class for every form of file.</summary>
internal sealed class PipelineTokenizer : Tokenizer
{
    private readonly TokenizerParts _parts;
    private readonly TokenDecoder _decoder;
    private readonly Dictionary<int, AddedToken> _addedById;
    private readonly Dictionary<string, int> _addedByText;
    private readonly AddedTokenMatcher? _rawMatcher;
    private readonly AddedTokenMatcher? _normalizedMatcher;
    private readonly ConcurrentBag<EncodeState> _states = [];
    private readonly Lazy<string> _fingerprint;

    public PipelineTokenizer(TokenizerParts parts)
    {
        if (parts.Added.GroupBy(token => token.Content, StringComparer.Ordinal).FirstOrDefault(group => group.Count() > 1) is { } twice)
        {
            Throw.BadInput($"the tokenizer adds '{Vocabulary.Shorten(twice.Key)}' twice", $"with ids {string.Join(", ", twice.Select(token => token.Id))}", "correct added_tokens_decoder in tokenizer_config.json");
        }

        _parts = parts;
        _addedById = parts.Added.ToDictionary(token => token.Id);
        _addedByText = parts.Added.ToDictionary(token => token.Content, token => token.Id, StringComparer.Ordinal);
        _rawMatcher = AddedTokenMatcher.Create(parts.Added.Where(token => !token.Normalized).Select(token => (token.Content, token)));
        _normalizedMatcher = AddedTokenMatcher.Create(
            parts.Added.Where(token => token.Normalized).Select(token => (NormalForm(parts.Normalizer, token), token)));
        VocabularySize = Math.Max(parts.Rules.Vocabulary.Size, parts.Added.Select(token => token.Id + 1).DefaultIfEmpty().Max());
        _decoder = new TokenDecoder(parts.Decoder, VocabularySize, TokenText, _addedById.ContainsKey);
        _fingerprint = new Lazy<string>(() => TokenizerFingerprint.Of(parts, VocabularySize, TokenText));
    }

    /// <inheritdoc/>
    public override int VocabularySize { get; }

    /// <inheritdoc/>
    public override int? BosId => _parts.Specials.Bos;

    /// <inheritdoc/>
    public override IReadOnlyList<int> EosIds => _parts.Specials.Eos;

    /// <inheritdoc/>
    public override int? PadId => _parts.Specials.Pad;

    /// <inheritdoc/>
    public override bool AddsBos => BosId is int bos && _parts.Specials.Prefix.Contains(bos);

    /// <inheritdoc/>
    public override string Fingerprint => _fingerprint.Value;

    /// <inheritdoc/>
    public override string? TokenText(int id) =>
        _addedById.TryGetValue(id, out AddedToken? added) ? added.Content
        : (uint)id < (uint)_parts.Rules.Vocabulary.Size ? _parts.Rules.Vocabulary.TextSpan[id]
        : null;

    /// <inheritdoc/>
    public override int? TokenId(string text) =>
        _addedByText.TryGetValue(text, out int id) || _parts.Rules.Vocabulary.TryGet(text, out id) ? id : null;

    /// <inheritdoc/>
    public override bool IsSpecial(int id) => _addedById.TryGetValue(id, out AddedToken? added) && added.Special;

    /// <inheritdoc/>
    public override void Encode(ReadOnlySpan<char> text, List<int> output, bool addSpecialTokens = true)
    {
        if (!_states.TryTake(out EncodeState? state))
        {
            state = new EncodeState();
        }

        state.Output = output;
        if (addSpecialTokens)
        {
            output.AddRange(_parts.Specials.Prefix);
        }

        EncodeRaw(text, state);
        if (addSpecialTokens)
        {
            output.AddRange(_parts.Specials.Suffix);
        }

        state.Output = [];
        _states.Add(state);
    }

    /// <summary>Drops what was remembered of earlier texts.</summary>
    internal void Forget() => _states.Clear();

    /// <inheritdoc/>
    internal override ReadOnlySpan<byte> Bytes(int id, ref DecodePosition position) => _decoder.Bytes(id, ref position);

    private static string NormalForm(Normalizer? normalizer, AddedToken token) =>
        normalizer == null || token.IsNormalForm ? token.Content : normalizer.Apply(token.Content);

    private void EncodeRaw(ReadOnlySpan<char> text, EncodeState state)
    {
        int at = 0;
        int from = 0;
        while (_rawMatcher?.Next(text, ref from, at, out int start, out int end) is AddedToken token)
        {
            EncodeSection(text[at..Math.Max(at, start)], at == 0, state);
            state.Output.Add(token.Id);
            at = end;
        }

        EncodeSection(text[at..], at == 0, state);
    }

    private void EncodeSection(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        if (text.IsEmpty)
        {
            return;
        }

        if (_parts.Normalizer != null)
        {
            text = _parts.Normalizer.Apply(text.ToString());
        }

        int at = 0;
        int from = 0;
        while (_normalizedMatcher?.Next(text, ref from, at, out int start, out int end) is AddedToken token)
        {
            if (start > at)
            {
                _parts.Splitter.Accept(text[at..start], atStart && at == 0, state);
            }

            state.Output.Add(token.Id);
            at = end;
        }

        if (at < text.Length)
        {
            _parts.Splitter.Accept(text[at..], atStart && at == 0, state);
        }
    }
}
