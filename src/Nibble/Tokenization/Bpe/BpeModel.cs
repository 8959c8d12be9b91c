using System.Runtime.InteropServices;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>
/// Byte-pair encoding of one piece: its first symbols (bytes or characters), then merges. The last step of the chain of
/// <see cref="PieceStep"/>s.
/// </summary>
internal sealed class BpeModel : PieceStep
{
    private readonly BpeRules _rules;
    private readonly int[]? _byteIds;
    private readonly int[] _basicIds;
    private readonly Dictionary<int, int> _otherIds = [];
    private readonly int[]? _fallback;
    private readonly PairBarrier? _barrier;

    public BpeModel(BpeRules rules)
    {
        _rules = rules;
        _byteIds = rules.Bytes ? rules.Vocabulary.ByteIds() : null;
        _basicIds = rules.Bytes ? [] : new int[char.MaxValue + 1];
        if (!rules.Bytes)
        {
            FillCharacters();
        }

        _fallback = rules.ByteFallback ? rules.Vocabulary.FallbackIds() : null;

        // Without any token for unknown characters they vanish, and what they stood between becomes neighbours.
        bool nothingVanishes = _fallback != null || rules.UnknownId != null;
        if (!rules.Bytes && !rules.IgnoreMerges && nothingVanishes && !FallbackMerges(rules, _fallback))
        {
            _barrier = new PairBarrier(rules.Vocabulary, unit => _fallback != null || _basicIds[unit] >= 0);
        }
    }

    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        if (_barrier == null)
        {
            Piece(text, state);
            return;
        }

        int at = 0;
        while (at < text.Length)
        {
            int end = _barrier.End(text, at);
            Piece(text[at..end], state);
            at = end;
        }
    }

    /// <summary>True if a merge takes byte tokens: their texts say nothing about which characters they stand for.</summary>
    private static bool FallbackMerges(BpeRules rules, int[]? fallback) =>
        fallback?.ToHashSet() is HashSet<int> bytes && rules.Merges.Pairs().Any(pair => bytes.Contains(pair.Left) || bytes.Contains(pair.Right));

    private void FillCharacters()
    {
        Array.Fill(_basicIds, -1);
        for (int id = 0; id < _rules.Vocabulary.Size; id++)
        {
            string? text = _rules.Vocabulary.TextSpan[id];
            if (text?.Length == 1)
            {
                _basicIds[text[0]] = id;
            }
            else if (text?.Length == 2 && char.IsSurrogatePair(text[0], text[1]))
            {
                _otherIds[char.ConvertToUtf32(text[0], text[1])] = id;
            }
        }
    }

    private void Piece(ReadOnlySpan<char> piece, EncodeState state)
    {
        if (piece.Length > PieceCache.LongestPiece)
        {
            Append(state.Output, Tokenize(piece, state));
            return;
        }

        uint hash = PieceCache.Hash(piece);
        if (!state.Cache.TryGet(piece, hash, out ReadOnlySpan<int> ids))
        {
            ids = Tokenize(piece, state);
            state.Cache.Add(piece, hash, ids);
        }

        Append(state.Output, ids);
    }

    private static void Append(List<int> output, ReadOnlySpan<int> ids)
    {
        if (ids.Length == 1)
        {
            output.Add(ids[0]);
            return;
        }

        int count = output.Count;
        CollectionsMarshal.SetCount(output, count + ids.Length);
        ids.CopyTo(CollectionsMarshal.AsSpan(output)[count..]);
    }

    private ReadOnlySpan<int> Tokenize(ReadOnlySpan<char> piece, EncodeState state)
    {
        // Each UTF-16 unit has at most three bytes, and a symbol has at least one byte.
        Span<int> symbols = state.Symbols(piece.Length * 3);
        int count;
        if (_byteIds != null)
        {
            Span<byte> bytes = state.Bytes(piece.Length * 3);
            bytes = bytes[..Encoding.UTF8.GetBytes(piece, bytes)];
            if (_rules.IgnoreMerges && _rules.Vocabulary.TryGetBytes(bytes, out int whole))
            {
                symbols[0] = whole;
                return symbols[..1];
            }

            count = BytesToSymbols(bytes, symbols);
        }
        else
        {
            if (_rules.IgnoreMerges && _rules.Vocabulary.TryGet(piece, out int whole))
            {
                symbols[0] = whole;
                return symbols[..1];
            }

            count = CharactersToSymbols(piece, symbols);
        }

        return symbols[..state.Merger(_rules.Merges).Merge(symbols[..count])];
    }

    private int BytesToSymbols(ReadOnlySpan<byte> bytes, Span<int> symbols)
    {
        int count = 0;
        foreach (byte value in bytes)
        {
            int id = _byteIds![value];
            count = id >= 0 ? Put(symbols, count, id) : Unknown(symbols, count);
        }

        return count;
    }

    private int CharactersToSymbols(ReadOnlySpan<char> piece, Span<int> symbols)
    {
        int count = 0;
        foreach (Rune rune in piece.EnumerateRunes())
        {
            int id = rune.IsBmp ? _basicIds[rune.Value] : _otherIds.GetValueOrDefault(rune.Value, -1);
            if (id >= 0)
            {
                symbols[count++] = id;
            }
            else if (_fallback != null)
            {
                count = FallBack(rune, symbols, count);
            }
            else
            {
                count = Unknown(symbols, count);
            }
        }

        return count;
    }

    private int FallBack(Rune rune, Span<int> symbols, int count)
    {
        Span<byte> bytes = stackalloc byte[4];
        foreach (byte value in bytes[..rune.EncodeToUtf8(bytes)])
        {
            symbols[count++] = _fallback![value];
        }

        return count;
    }

    private static int Put(Span<int> symbols, int count, int id)
    {
        symbols[count] = id;
        return count + 1;
    }

    /// <summary>What has no symbol becomes the unknown token; without one it is left out, as the reference implementation does.</summary>
    private int Unknown(Span<int> symbols, int count)
    {
        if (_rules.UnknownId is not int unknown || (_rules.FuseUnknown && count > 0 && symbols[count - 1] == unknown))
        {
            return count;
        }

        return Put(symbols, count, unknown);
    }
}
