using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// Keys and values of all layers: per layer <c>[batch, kvHeads, capacity, headDim]</c>, F32 or as the model's <see cref="CausalModel.CacheType"/>
/// says. A model with virtual tokens has their slots
/// before those of the tokens.
/// </summary>
public sealed class KvCache : IDisposable
{
    private readonly Tensor?[] _keys;
    private readonly Tensor?[] _values;
    private readonly Func<Tensor> _allocate;
    private readonly bool _oneLayer;
    private int _length;

    /// <summary>Takes memory for <paramref name="batch"/> rows of <paramref name="capacity"/> slots for tokens.</summary>
    public KvCache(CausalModel model, int batch, int capacity)
        : this(model, batch, capacity, model.Virtual?.Count ?? 0, type: model.CacheType, numbers: model.CacheNumbers)
    {
    }

    /// <summary>With <paramref name="oneLayer"/> all layers share the memory of one: for work that goes block by block, never from one to the next.</summary>
    internal KvCache(CausalModel model, int batch, int capacity, bool oneLayer)
        : this(model, batch, capacity, model.Virtual?.Count ?? 0, oneLayer)
    {
    }

    /// <summary>The same with another number of slots before those of tokens; if it is <paramref name="late"/>, layers take memory when they are first asked for.</summary>
    internal KvCache(CausalModel model, int batch, int capacity, int first, bool oneLayer = false, KvCacheType type = KvCacheType.F32, DType? numbers = null, bool late = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        ModelFacts facts = model.Facts;
        First = first;
        Type = type;
        Shape shape = new(batch, facts.KvHeads, First + capacity, type.Columns(facts.HeadDim));
        (_keys, _values, _oneLayer) = (new Tensor?[facts.Layers], new Tensor?[facts.Layers], oneLayer);
        _allocate = () => model.Backend.Allocate(shape, numbers ?? type.Storage());
        for (int layer = 0; !late && layer < facts.Layers; layer++)
        {
            Keys(layer);
            Values(layer);
        }

        Batch = batch;
        Capacity = capacity;
        Length = First;
    }

    /// <summary>
    /// Caches of one row each as the rows of a batch: every row has its own length, a pass appends to each where it ends. They still belong
    /// to whoever made them.
    /// </summary>
    internal KvCache(IReadOnlyList<KvCache> rows)
    {
        (_keys, _values, _allocate) = ([], [], () => throw new InvalidOperationException("rows with caches of their own have no common one"));
        (Rows, Batch, First, Type, Capacity) = (rows, rows.Count, rows[0].First, rows[0].Type, rows.Max(row => row.Capacity));
    }

    /// <summary>The caches of the rows where each has its own; null where the rows share this one.</summary>
    internal IReadOnlyList<KvCache>? Rows { get; }

    /// <summary>In which numbers keys and values stand.</summary>
    public KvCacheType Type { get; }

    /// <summary>Rows.</summary>
    public int Batch { get; }

    /// <summary>Slots of virtual tokens, before those of tokens.</summary>
    public int First { get; }

    /// <summary>Slots of each row for tokens.</summary>
    public int Capacity { get; }

    /// <summary>Slots in use, those of virtual tokens included; a forward pass advances it by its length. Setting it lower forgets the newest tokens.</summary>
    public int Length
    {
        get => Rows is null ? _length : Rows.Min(row => row.Length);
        set => _length = Rows is null ? value : throw new InvalidOperationException("rows with caches of their own have lengths of their own");
    }

    /// <summary>Forgets all tokens.</summary>
    public void Reset() => Length = First;

    /// <summary>Bytes of all layers.</summary>
    public long ByteLength => Owned.Sum(tensor => (long)tensor.ByteLength);

    /// <summary>The keys of a layer.</summary>
    public Tensor Keys(int layer) => _keys[layer] ??= _oneLayer && layer > 0 ? Keys(0) : _allocate();

    /// <summary>The values of a layer.</summary>
    public Tensor Values(int layer) => _values[layer] ??= _oneLayer && layer > 0 ? Values(0) : _allocate();

    /// <summary>Whether every row has room for some more tokens.</summary>
    internal bool HasRoom(int tokens) => Rows?.All(row => row.HasRoom(tokens)) ?? Length - First + tokens <= Capacity;

    /// <summary>Notes that a pass has appended some tokens to every row.</summary>
    internal void Advance(int tokens)
    {
        if (Rows is null)
        {
            Length += tokens;
            return;
        }

        foreach (KvCache row in Rows)
        {
            row.Advance(tokens);
        }
    }

    /// <summary>
    /// Copies slots from <paramref name="start"/> up to <paramref name="end"/> of another cache of one row of the same model, on the host; this one
    /// then ends there.
    /// </summary>
    internal void CopyFrom(KvCache other, int start, int end)
    {
        for (int layer = 0; layer < _keys.Length; layer++)
        {
            CopySlots(other.Keys(layer), Keys(layer), start, end);
            CopySlots(other.Values(layer), Values(layer), start, end);
        }

        Length = end;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Tensor tensor in Owned)
        {
            tensor.Dispose();
        }
    }

    // Heads stand one after the other, each with its own capacity.
    private static unsafe void CopySlots(Tensor source, Tensor target, int start, int end)
    {
        nint slot = source.Shape[3] * source.DType.Size(), bytes = (end - start) * slot;
        for (nint head = 0; head < source.Shape[1]; head++)
        {
            Buffer.MemoryCopy(source.HostPointer + (((head * source.Shape[2]) + start) * slot), target.HostPointer + (((head * target.Shape[2]) + start) * slot), bytes, bytes);
        }

        GC.KeepAlive(source);
        GC.KeepAlive(target);
    }

    private IEnumerable<Tensor> Owned => _keys.Concat(_values).OfType<Tensor>().Distinct();
}
