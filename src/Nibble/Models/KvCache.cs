using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// Keys and values of all layers: per layer <c>[batch, kvHeads, capacity, headDim]</c>, F32 or as the model's <see cref="CausalModel.CacheType"/>
/// says. A model with virtual tokens has their slots
/// before those of the tokens.
/// </summary>
public sealed class KvCache : IDisposable
{
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;

    /// <summary>Takes memory for <paramref name="batch"/> rows of <paramref name="capacity"/> slots for tokens.</summary>
    public KvCache(CausalModel model, int batch, int capacity)
        : this(model, batch, capacity, model.Virtual?.Count ?? 0, type: model.CacheType)
    {
    }

    /// <summary>With <paramref name="oneLayer"/> all layers share the memory of one: for work that goes block by block, never from one to the next.</summary>
    internal KvCache(CausalModel model, int batch, int capacity, bool oneLayer)
        : this(model, batch, capacity, model.Virtual?.Count ?? 0, oneLayer)
    {
    }

    /// <summary>The same with another number of slots before those of tokens.</summary>
    internal KvCache(CausalModel model, int batch, int capacity, int first, bool oneLayer = false, KvCacheType type = KvCacheType.F32, DType? numbers = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        ModelFacts facts = model.Facts;
        First = first;
        Type = type;
        Shape shape = new(batch, facts.KvHeads, First + capacity, type.Columns(facts.HeadDim));
        _keys = Allocate(model, shape, numbers ?? type.Storage(), oneLayer);
        _values = Allocate(model, shape, numbers ?? type.Storage(), oneLayer);
        Batch = batch;
        Capacity = capacity;
        Length = First;
    }

    /// <summary>In which numbers keys and values stand.</summary>
    public KvCacheType Type { get; }

    /// <summary>Rows.</summary>
    public int Batch { get; }

    /// <summary>Slots of virtual tokens, before those of tokens.</summary>
    public int First { get; }

    /// <summary>Slots of each row for tokens.</summary>
    public int Capacity { get; }

    /// <summary>Slots in use, those of virtual tokens included; a forward pass advances it by its length. Setting it lower forgets the newest tokens.</summary>
    public int Length { get; set; }

    /// <summary>Forgets all tokens.</summary>
    public void Reset() => Length = First;

    /// <summary>Bytes of all layers.</summary>
    public long ByteLength => Owned.Sum(tensor => (long)tensor.ByteLength);

    /// <summary>The keys of a layer.</summary>
    public Tensor Keys(int layer) => _keys[layer];

    /// <summary>The values of a layer.</summary>
    public Tensor Values(int layer) => _values[layer];

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Tensor tensor in Owned)
        {
            tensor.Dispose();
        }
    }

    private IEnumerable<Tensor> Owned => _keys.Distinct().Concat(_values.Distinct());

    private static Tensor[] Allocate(CausalModel model, Shape shape, DType dtype, bool oneLayer)
    {
        Tensor[] layers = new Tensor[model.Facts.Layers];
        for (int i = 0; i < layers.Length; i++)
        {
            layers[i] = oneLayer && i > 0 ? layers[0] : model.Backend.Allocate(shape, dtype);
        }

        return layers;
    }
}
