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
            // Twice what is needed, so that a growing conversation starts anew a few times only.
            _cache?.Dispose();
            _cache = new KvCache(_model, 1, Math.Max(capacity, Math.Min(_model.Facts.Context, Math.Max(LeastCapacity, 2 * capacity))));
            _tokens.Clear();
        }

        Kept = 0;
        while (Kept < _tokens.Count && Kept < prompt.Length - 1 && _tokens[Kept] == prompt[Kept])
        {
            Kept++;
        }

        _tokens.RemoveRange(Kept, _tokens.Count - Kept);
        _cache.Length = _cache.First + Kept;
        return _cache;
    }

    /// <summary>Notes tokens that have run.</summary>
    internal void Add(ReadOnlySpan<int> tokens) => _tokens.AddRange(tokens);
}
