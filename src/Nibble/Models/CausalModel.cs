using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The tokens of one forward pass.</summary>
/// <param name="Ids">I32 <c>[batch·length]</c>: the new tokens, row after row, on the model's backend.</param>
/// <param name="Positions">I32 <c>[batch·length]</c>: the position of each token (with left padding: cumulative mask − 1, at least 0).</param>
/// <param name="Batch">Rows.</param>
/// <param name="Length">New tokens per row.</param>
/// <param name="FirstKey">I32 <c>[batch]</c>: left padding of each row in slots, or null for none.</param>
public readonly record struct ModelInput(Tensor Ids, Tensor Positions, int Batch, int Length, Tensor? FirstKey = null);

/// <summary>What every causal model says about itself.</summary>
/// <param name="ModelType">The <c>model_type</c> of its config.</param>
/// <param name="Vocabulary">Entries of the embedding.</param>
/// <param name="Context">Longest sequence that it was made for.</param>
/// <param name="Hidden">Width of the hidden states.</param>
/// <param name="Layers">Blocks.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KvHeads">Key and value heads.</param>
/// <param name="HeadDim">Width of a head.</param>
/// <param name="Labels">Labels of the classification head; 0 without one.</param>
public sealed record ModelFacts(
    string ModelType, int Vocabulary, int Context, int Hidden, int Layers, int Heads, int KvHeads, int HeadDim, int Labels = 0);

/// <summary>
/// A causal language model on a backend. One call runs the new tokens of a batch through all blocks; keys and values go to the
/// cache, which is always given (a pass without history starts from an empty one).
/// </summary>
public abstract class CausalModel : IDisposable
{
    /// <summary>Creates a model on <paramref name="backend"/>.</summary>
    protected CausalModel(ModelFacts facts, IBackend backend) => (Facts, Backend) = (facts, backend);

    /// <summary>Sizes and names.</summary>
    public ModelFacts Facts { get; }

    /// <summary>Where the weights live.</summary>
    public IBackend Backend { get; }

    /// <summary>The packed weight of every linear layer by its path, for reports.</summary>
    public abstract IEnumerable<(string Path, IPackedWeight Weight)> Weights { get; }

    /// <summary>Bytes that weights take in the backend's memory: packings, embeddings, norms, biases.</summary>
    public abstract long WeightBytes { get; }

    /// <summary>Parameters of the model (tied matrices once).</summary>
    public abstract long ParameterCount { get; }

    /// <summary>Hidden states after the final norm: F32 <c>[batch·length, hidden]</c>, rented from <paramref name="workspace"/>.</summary>
    public abstract Tensor Forward(in ModelInput input, KvCache cache, Workspace workspace);

    /// <summary>Logits of some rows of hidden states: logits F32 <c>[rows, vocabulary]</c> (or <c>[rows, labels]</c> for a classifier).</summary>
    public abstract void Logits(Tensor hidden, Tensor logits);

    /// <summary>
    /// log p(target) of each row without materializing all logits: targets I32 <c>[rows]</c> (negative: not scored),
    /// logProbabilities F32 <c>[rows]</c>, best I32 <c>[rows]</c> or null.
    /// </summary>
    public abstract void LogLikelihood(Tensor hidden, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>Keys and values of all layers: per layer F32 <c>[batch, kvHeads, capacity, headDim]</c>.</summary>
public sealed class KvCache : IDisposable
{
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;

    /// <summary>Takes memory for <paramref name="batch"/> rows of <paramref name="capacity"/> slots.</summary>
    public KvCache(CausalModel model, int batch, int capacity)
    {
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
