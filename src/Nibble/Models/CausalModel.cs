using Nibble.Backends;
using Nibble.Backends.Cuda.Packings;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The parts of a model; it owns all of them.</summary>
/// <param name="Facts">Sizes.</param>
/// <param name="Backend">Where the weights live.</param>
/// <param name="Embedding">Token embedding <c>[vocabulary, hidden]</c>.</param>
/// <param name="Blocks">The blocks.</param>
/// <param name="FinalNorm">Norm after the last block.</param>
/// <param name="Head">Output head, or classification head; may share the embedding's weight.</param>
/// <param name="Owned">Norms, biases, tables; with the checkpoint's name, or an empty one if they stand in no checkpoint.</param>
/// <param name="ParameterCount">Parameters, tied ones once.</param>
public sealed record ModelParts(
    ModelFacts Facts, IBackend Backend, IPackedWeight Embedding, IReadOnlyList<Block> Blocks, INorm FinalNorm, ILinear Head,
    IReadOnlyList<(string Name, IDisposable Item)> Owned, long ParameterCount);

/// <summary>How a pass runs a block on its hidden states, in place.</summary>
internal delegate void BlockRunner(Block block, Tensor hidden, in Pass pass);

/// <summary>
/// A causal language model on a backend. One call runs the new tokens of a batch through all blocks; keys and values go to the
/// cache, which is always given (a pass without history starts from an empty one).
/// </summary>
public abstract class CausalModel(ModelParts parts) : IDisposable
{
    // What kernels of attention in BF16 take, and how many rows go through kernels of few rows.
    private const int MostHalfHeadDim = 128, MostFewRows = 128;
    // Decided before adapters hide layers behind their own.
    private readonly bool _roundsActivations = parts.Blocks.Any(block => block.Linears.Any(linear => linear is RoundedLinear or RepairedLinear { Inner: RoundedLinear }));
    private ILinear _head = parts.Head;
    private VirtualTokens? _virtual;
    private KvCacheType _cacheType;
    private bool _isDisposed;

    /// <summary>Sizes and names; virtual tokens take their part of the context.</summary>
    public ModelFacts Facts => _virtual is null ? parts.Facts : parts.Facts with { Context = parts.Facts.Context - _virtual.Count };

    /// <summary>In which numbers caches of this model keep keys and values, where nothing else is asked for.</summary>
    /// <exception cref="NibbleException">The backend has no such cache.</exception>
    public KvCacheType CacheType
    {
        get => _cacheType;
        set
        {
            if (value != KvCacheType.F32 && parts.Backend is not Backends.Cpu.CpuBackend && !(value is KvCacheType.Int8 or KvCacheType.BF16 && ComputesHalf))
            {
                Throw.Usage(
                    $"no {value} cache of keys and values on {parts.Backend.Name} {parts.Backend.KernelVariant}",
                    "a card has caches of F32; with --dtype bf16, for heads of up to 128 elements that 8 divides, of BF16 and Int8 as well",
                    "leave --kv-cache out, or use --device cpu");
            }

            _cacheType = value;
        }
    }

    /// <summary>The numbers in which a backend whose kernels take BF16 keeps keys and values, if nothing else is asked for; null for those of <see cref="CacheType"/>.</summary>
    internal DType? CacheNumbers => ComputesHalf && _cacheType == KvCacheType.F32 ? DType.BF16 : null;

    private bool ComputesHalf => parts.Backend.Computes(DType.BF16) && parts.Facts.HeadDim % 8 == 0 && parts.Facts.HeadDim <= MostHalfHeadDim;

    /// <summary>Where the weights live.</summary>
    public IBackend Backend => parts.Backend;

    /// <summary>The blocks, for work that goes block by block.</summary>
    public IReadOnlyList<Block> Blocks => parts.Blocks;

    /// <summary>The output head.</summary>
    public ILinear Head => _head;

    /// <summary>The packed weight of every linear layer by its path, and of the embedding, for reports (a tied head only once).</summary>
    public IEnumerable<(string Path, IPackedWeight Weight)> Weights =>
        parts.Blocks.SelectMany(block => block.Linears).Select(linear => (linear.Path, linear.Weight))
            .Prepend((EmbeddingPath, parts.Embedding))
            .Concat(IsTied ? [] : [(_head.Path, _head.Weight)]);

    /// <summary>In which numbers products read activations, for reports; on the processor those of many rows.</summary>
    internal string ActivationDtype => HasInt8Activations ? "int8" : Backend is Backends.Cpu.CpuBackend { Compute: DType.BF16 } ? "bf16" : "f32";

    /// <summary>True if some layers read their activations as 8-bit integers.</summary>
    internal bool HasInt8Activations => _roundsActivations || Weights.Any(item => item.Weight.Activations == ActivationType.Int8);

    /// <summary>Bytes that weights take in the backend's memory: packings, embeddings, norms, biases.</summary>
    public long WeightBytes =>
        Weights.Sum(item => (long)item.Weight.ByteLength) + parts.Owned.Sum(part => part.Item switch
        {
            Tensor tensor => tensor.ByteLength,
            IPackedWeight table => table.ByteLength,
            RepairTerm repair => repair.ByteLength,
            _ => 0L,
        });

    /// <summary>Parameters of the model (tied matrices once).</summary>
    public long ParameterCount => parts.ParameterCount;

    /// <summary>Every parameter by its checkpoint's name: a packing, or a vector of F32.</summary>
    internal IEnumerable<(string Name, object Holder)> Parameters =>
        Weights.Select(item => (item.Path + ".weight", (object)item.Weight))
            .Concat(parts.Owned.Where(part => part.Name.Length > 0 && part.Item is Tensor or IPackedWeight).Select(part => (part.Name, (object)part.Item)));

    /// <summary>The low-rank repairs of quantized layers, by their paths.</summary>
    internal IEnumerable<(string Path, RepairTerm Term)> Repairs => parts.Owned.Where(part => part.Item is RepairTerm).Select(part => (part.Name, (RepairTerm)part.Item));

    /// <summary>Keys and values before every row's tokens, or null; they belong to an adapter.</summary>
    internal VirtualTokens? Virtual
    {
        get => _virtual;
        set
        {
            if (value?.Count >= parts.Facts.Context)
            {
                Throw.Usage($"{value.Count:N0} virtual tokens leave no room for tokens", $"the model's context is {parts.Facts.Context:N0}", "use fewer virtual tokens");
            }

            _virtual = value;
        }
    }

    /// <summary>Where a card computes and the token embedding is not the head too: it waits in the host's memory, and the card reads the rows of a pass from there.</summary>
    internal void MoveEmbeddingToHost()
    {
        if (!IsTied && parts.Embedding is DenseCudaPacking table)
        {
            table.MoveToHost();
        }
    }

    /// <summary>Path of the token embedding.</summary>
    protected abstract string EmbeddingPath { get; }

    /// <summary>The token embedding.</summary>
    protected IPackedWeight Embedding => parts.Embedding;

    private bool IsTied => ReferenceEquals(parts.Head.Weight, parts.Embedding);

    /// <summary>Hidden states after the final norm: F32 <c>[batch·length, hidden]</c>, rented from <paramref name="workspace"/>.</summary>
    public Tensor Forward(in ModelInput input, KvCache cache, Workspace workspace)
    {
        RequireRoom(input, cache);
        Tensor hidden = Forward(new Pass(Backend, workspace, input, cache) { Virtual = _virtual, Activations = ActivationsOf(input) }, RunBlock);
        cache.Advance(input.Length);
        return hidden;
    }

    /// <summary>The same with another backend or another way of running blocks (training); the cache does not advance.</summary>
    internal Tensor Forward(in Pass pass, BlockRunner run)
    {
        RequireWeights();
        Tensor hidden = pass.Workspace.Rent(new Shape(pass.Input.Rows, Facts.Hidden));
        Embed(hidden, pass);
        foreach (Block block in parts.Blocks)
        {
            run(block, hidden, pass);
        }

        // A training's head reads what its products read; everybody else gets F32.
        Tensor result = pass.Training && pass.Activations == DType.BF16 ? pass.Rent(hidden.Shape) : hidden;
        parts.FinalNorm.Forward(hidden, result, pass);
        return result;
    }

    /// <summary>Puts another head in the place of the model's own, which it keeps; the new one belongs to its maker.</summary>
    internal void ReplaceHead(ILinear head) => _head = head;

    /// <summary>The norm between the last block and the head, in place.</summary>
    internal void FinishHidden(Tensor hidden, in Pass pass) => parts.FinalNorm.Forward(hidden, hidden, pass);

    /// <summary>Runs one block; its intermediates are free again afterwards.</summary>
    internal static void RunBlock(Block block, Tensor hidden, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        block.Forward(hidden, pass);
    }

    /// <summary>What goes into the first block: F32 <c>[batch·length, hidden]</c>.</summary>
    public abstract void Embed(Tensor hidden, in Pass pass);

    /// <summary>Logits of some rows of hidden states: logits F32 <c>[rows, vocabulary]</c> (or <c>[rows, labels]</c> for a classifier).</summary>
    public void Logits(Tensor hidden, Tensor logits)
    {
        RequireWeights();
        Ops.MatMul.Forward(Backend, hidden, _head.Weight, _head.Bias, logits);
    }

    /// <summary>
    /// log p(target) of each row without materializing all logits: targets I32 <c>[rows]</c> (negative: not scored),
    /// logProbabilities F32 <c>[rows]</c>, best I32 <c>[rows]</c> or null.
    /// </summary>
    public void LogLikelihood(Tensor hidden, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
        RequireWeights();
        if (Facts.Labels > 0)
        {
            Throw.Usage($"this {Facts.ModelType} is a classifier with {Facts.Labels} labels", "it has no head over the vocabulary", "use a language model");
        }

        Ops.LogLikelihood.Forward(Backend, hidden, _head.Weight, _head.Bias, targets, logProbabilities, best, workspace);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _isDisposed = true;
        foreach (IDisposable item in parts.Blocks.Concat(parts.Owned.Select(part => part.Item)))
        {
            item.Dispose();
        }

        if (!IsTied)
        {
            parts.Head.Dispose();
        }

        parts.Embedding.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Refuses work once the weights are gone: kernels would only tell that some memory is.</summary>
    internal void RequireWeights()
    {
        if (_isDisposed)
        {
            throw new ObjectDisposedException(GetType().Name, "The model was disposed, and its weights with it: use it before it is disposed, or load it again.");
        }
    }

    /// <summary>The token embedding of a pass, with the prompt that is being tuned in its places.</summary>
    protected void EmbedTokens(Tensor hidden, in Pass pass)
    {
        Ops.Gather.Forward(pass.Backend, Embedding, pass.Input.Ids, hidden);
        if (pass.Prompt is { } prompt)
        {
            Ops.Gather.Some(pass.Backend, prompt.Table, prompt.Ids, hidden);
        }
    }

    /// <summary>
    /// Where products multiply in BF16, passes of many rows keep their intermediates in it too; a few rows read their input in F32. Layers with something
    /// around them, and weights that round their input by themselves, get F32.
    /// </summary>
    private DType ActivationsOf(in ModelInput input) =>
        ComputesHalf && input.Length > 1 && input.Rows > MostFewRows && Blocks.All(
            block => block.Linears.All(linear => linear is PackedLinear && linear.Weight.Activations == ActivationType.F32)) ? DType.BF16 : DType.F32;

    private static void RequireRoom(in ModelInput input, KvCache cache)
    {
        if (cache.Batch != input.Batch || !cache.HasRoom(input.Length))
        {
            Throw.Argument(
                "forward",
                $"{input.Batch} × {input.Length} tokens after {cache.Length} slots do not fit a cache of {cache.Batch} × {cache.Capacity}");
        }
    }
}
