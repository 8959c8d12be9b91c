using Nibble.Models;

namespace Nibble.Generation;

/// <summary>
/// Keys and values that outlive a generation: the next prompt that begins with the same tokens runs only what comes after them. Which
/// tokens those are is found by comparison, so a prompt of any other form is right too, only slower.
/// </summary>
public sealed class PromptCache : IDisposable
{
    private const int LeastCapacity = 1024;

    private readonly CausalModel _model;
    private readonly List<int> _tokens = [];
    private KvCache? _cache;

    /// <summary>An empty cache for one row of a model.</summary>
    public PromptCache(CausalModel model) => _model = model;

    /// <summary>Tokens of the last prompt that did not have to run again.</summary>
    public int Kept { get; private set; }

    /// <summary>Forgets everything.</summary>
    public void Clear() => _tokens.Clear();

    /// <inheritdoc/>
    public void Dispose() => _cache?.Dispose();

    /// <summary>Makes ready for a prompt: the cache stands behind the tokens that are kept. The last token always runs, for its logits.</summary>
    internal KvCache Begin(int[] prompt, int capacity)
    {
        if (_cache is null || _cache.Capacity < capacity)
        {
            Grow(prompt, capacity);
        }

        Kept = Math.Min(Common(prompt), prompt.Length - 1);
        _tokens.RemoveRange(Kept, _tokens.Count - Kept);
        _cache!.Length = _cache.First + Kept;
        return _cache;
    }

    // Twice what is needed, so that a growing conversation does so a few times only. What it kept goes along where that is a copy in memory.
    private void Grow(int[] prompt, int capacity)
    {
        KvCache grown = new(_model, 1, Math.Max(capacity, Math.Min(_model.Facts.Context, Math.Max(LeastCapacity, 2 * capacity))));
        int common = Common(prompt);
        if (common > 0 && grown.Keys(0).IsOnHost)
        {
            grown.CopyFrom(_cache!, 0, grown.First + common);
            _tokens.RemoveRange(common, _tokens.Count - common);
        }
        else
        {
            _tokens.Clear();
        }

        _cache?.Dispose();
        _cache = grown;
    }

    /// <summary>The cache that <see cref="Begin"/> gave; null before the first prompt.</summary>
    internal KvCache? Current => _cache;

    /// <summary>Tokens in the cache.</summary>
    internal int Count => _tokens.Count;

    /// <summary>With how many tokens of this cache a prompt begins.</summary>
    internal int Common(ReadOnlySpan<int> prompt)
    {
        int common = 0;
        while (common < _tokens.Count && common < prompt.Length && _tokens[common] == prompt[common])
        {
            common++;
        }

        return common;
    }

    /// <summary>After <see cref="Begin"/>: takes the beginning of the prompt from another cache of the same model, if that has more of it. On the host alone.</summary>
    internal void Borrow(PromptCache other, int[] prompt)
    {
        int common = Math.Min(other.Common(prompt), prompt.Length - 1);
        if (common <= Kept || other._cache is null || !_cache!.Keys(0).IsOnHost)
        {
            return;
        }

        _cache.CopyFrom(other._cache, Kept == 0 ? 0 : _cache.First + Kept, _cache.First + common);
        _tokens.AddRange(prompt.AsSpan(Kept, common - Kept));
        Kept = common;
    }

    /// <summary>Notes tokens that have run.</summary>
    internal void Add(ReadOnlySpan<int> tokens) => _tokens.AddRange(tokens);
}
