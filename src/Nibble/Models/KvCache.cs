using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Keys and values of all layers: per layer F32 <c>[batch, kvHeads, capacity, headDim]</c>.</summary>
public sealed class KvCache : IDisposable
{
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;

    /// <summary>Takes memory for <paramref name="batch"/> rows of <paramref name="capacity"/> slots.</summary>
    public KvCache(CausalModel model, int batch, int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        ModelFacts facts = model.Facts;
        Shape shape = new(batch, facts.KvHeads, capacity, facts.HeadDim);
        _keys = [.. Enumerable.Range(0, facts.Layers).Select(_ => model.Backend.Allocate(shape, DType.F32))];
        _values = [.. Enumerable.Range(0, facts.Layers).Select(_ => model.Backend.Allocate(shape, DType.F32))];
        Batch = batch;
        Capacity = capacity;
    }

    /// <summary>Rows.</summary>
    public int Batch { get; }

    /// <summary>Slots of each row.</summary>
    public int Capacity { get; }

    /// <summary>Slots in use; a forward pass advances it by its length. Setting it lower forgets the newest tokens.</summary>
    public int Length { get; set; }

    /// <summary>Bytes of all layers.</summary>
    public long ByteLength => _keys.Sum(tensor => (long)tensor.ByteLength) + _values.Sum(tensor => (long)tensor.ByteLength);

    /// <summary>The keys of a layer.</summary>
    public Tensor Keys(int layer) => _keys[layer];

    /// <summary>The values of a layer.</summary>
    public Tensor Values(int layer) => _values[layer];

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Tensor tensor in _keys.Concat(_values))
        {
            tensor.Dispose();
        }
    }
}
