using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Token rows of one pass: right padding is a target of −1, which no real token can see.</summary>
/// <param name="Ids"><c>[batch·length]</c>, row after row.</param>
/// <param name="Targets">The token that follows each, or −1 where nothing is scored.</param>
/// <param name="Batch">Rows.</param>
/// <param name="Length">Tokens of a row.</param>
public sealed record TrainingBatch(int[] Ids, int[] Targets, int Batch, int Length)
{
    /// <summary>For each place the column where its text starts, where rows hold several; null where each is one text.</summary>
    public int[]? Starts { get; init; }

    /// <summary>Tokens without padding.</summary>
    public int Tokens { get; init; } = Ids.Length;

    /// <summary>Positions with a target.</summary>
    public int ScoredTokens => Targets.Count(target => target >= 0);
}

/// <summary>
/// Forward and backward of a model: adds the gradients of all parameters and gives the loss. Logits exist for a block of positions
/// at a time; their gradient takes their place at once.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="parameters">What is trained.</param>
/// <param name="checkpoint">Keep only the input of each block and run the block again on the way back.</param>
/// <param name="prompt">Embeddings that are tuned and stand before the tokens of each row, or null.</param>
internal sealed class TrainingPass(CausalModel model, ParameterSet parameters, bool checkpoint = false, IPackedWeight? prompt = null) : IDisposable
{
    // A device is fast with large products only; a processor with what fits its cache.
    private const nint MostLogitBytes = 32 << 20, MostLogitBytesOfDevice = 512 << 20, LogitAlignment = 64, RowAlignment = 128;

    // A training of few tokens is one that must fit a small card; of many, the host's memory is slow to read.
    private const int FewTokens = 1024;

    // The input of the last block is needed again at once.
    private const int OnCard = 1;

    private readonly IBackend _backend = model.Backend;
    private readonly Workspace _workspace = new(model.Backend);

    // Between the residual stream's norms: in F32, or in BF16 where the backend computes so.
    private readonly DType _activations = model.Backend.Computes(DType.BF16) ? DType.BF16 : DType.F32;

    private readonly Workspace? _scratch = model.Backend is CudaBackend && model.Backend.Computes(DType.BF16) ? new Workspace(model.Backend) : null;
    private CudaHalfCopies? _copies;
    private CudaOffload? _offload;
    private Tape? _tape;
    private RecordingBackend? _recorder;
    private KvCache? _cache;

    /// <summary>True if kept inputs of blocks wait in the host's memory.</summary>
    public bool Offloads { get; init; }

    /// <summary>Most bytes of logits that exist at once.</summary>
    internal nint LogitBytes { get; init; } = model.Backend is CudaBackend ? MostLogitBytesOfDevice : MostLogitBytes;

    /// <summary>Number of the pass since the start of the training: dropout depends on it.</summary>
    public ulong DropoutKey { get; set; }

    /// <summary>Bytes of intermediates and their gradients.</summary>
    public long PeakBytes => Parts.Forward + Parts.Backward + Parts.Cache;

    /// <summary>The same by what it is for: what the forward pass keeps; gradients and copies; keys and values.</summary>
    public (long Forward, long Backward, long Cache) Parts => ((long)(_workspace.ByteLength + (_scratch?.ByteLength ?? 0)), _tape?.PeakBytes ?? 0, _cache?.ByteLength ?? 0);

    /// <summary>
    /// Adds the gradients of <paramref name="scale"/> · Σ −log p(target) to the parameters and returns Σ −log p(target).
    /// </summary>
    public double Run(TrainingBatch batch, float scale)
    {
        _tape ??= NewTape();
        if (_recorder is null)
        {
            _recorder = new RecordingBackend(_backend, _tape, parameters);
            if (checkpoint && batch.Ids.Length <= FewTokens && parameters.Find(model.Weights.First().Weight) is null)
            {
                model.MoveEmbeddingToHost();
            }
        }

        batch = WithPrompt(batch);
        using Workspace.Scope scope = _workspace.Begin();
        Tensor ids = Upload(batch.Ids), targets = Upload(batch.Targets);
        Pass pass = new(_recorder, _workspace, Input(batch, ids), Cache(batch))
        {
            DropoutKey = DropoutKey,
            Training = true,
            Activations = _activations,
            Scratch = _scratch,
            Tape = _scratch is null ? null : _tape,
            Virtual = prompt is null ? model.Virtual : null,
            Prompt = prompt is null ? null : new PromptRows(prompt, Upload([.. Enumerable.Range(0, batch.Ids.Length).Select(i => i % batch.Length < prompt.Out ? i % batch.Length : -1)])),
        };
        if (_activations == DType.BF16 && _backend is CudaBackend cuda)
        {
            _copies ??= cuda.HalfCopies(parameters.All.Where(parameter => parameter.Publish is null).Select(parameter => parameter.Weight).OfType<IPackedWeight>());
        }

        using Workspace.Scope? scratch = _scratch?.Begin();
        if (_scratch is not null)
        {
            // What is saved in a scope of scratch memory is read there until something is written over it.
            _scratch.Stays = true;
        }

        _tape.Begin();
        _copies?.Begin();
        try
        {
            Tensor hidden = model.Forward(pass, checkpoint ? RunCheckpointed : CausalModel.RunBlock);
            Tensor losses = Head(hidden, targets, scale);
            _tape.Backward();
            // Read last: a device waits for nothing before.
            return Sum(losses);
        }
        finally
        {
            _copies?.End();
            _tape.End();
            if (_scratch is not null)
            {
                _scratch.Stays = false;
            }
        }
    }

    public void Dispose()
    {
        _copies?.Dispose();
        _tape?.Dispose();
        _offload?.Dispose();
        _cache?.Dispose();
        _workspace.Dispose();
        _scratch?.Dispose();
    }

    private Tape NewTape()
    {
        _offload = Offloads && checkpoint && _backend is CudaBackend cuda ? cuda.Offload() : null;
        return new Tape(_backend, _workspace) { Offload = _offload, OffloadedSegments = Math.Max(0, model.Blocks.Count - OnCard) };
    }

    private void RunCheckpointed(Block block, Tensor hidden, in Pass pass)
    {
        Pass copy = pass;
        _tape!.Checkpoint(hidden, () => CausalModel.RunBlock(block, hidden, copy), _activations);
    }

    private double Sum(Tensor losses)
    {
        float[] values = new float[losses.Shape[0]];
        _backend.Read<float>(losses, values);
        return values.Sum(loss => (double)loss);
    }

    // Losses of all positions.
    private Tensor Head(Tensor hidden, Tensor targets, float scale)
    {
        IPackedWeight head = model.Head.Weight;
        Tensor? dHidden = null;
        if (_tape!.IsActive(hidden))
        {
            _tape.OpenFresh(hidden, out dHidden);
        }

        Tensor losses = _workspace.Rent(new Shape(hidden.Shape[0]));
        // Rows of logits end at whole lines where tensor cores read them; a bias is summed over rows without such room.
        nint width = _activations == DType.F32 || model.Head.Bias is not null || head.Activations != ActivationType.F32 ? head.Out : (head.Out + LogitAlignment - 1) / LogitAlignment * LogitAlignment;
        nint most = nint.Clamp(LogitBytes / _activations.Size() / width, 1, hidden.Shape[0]);
        if (_backend is CudaBackend && most < hidden.Shape[0])
        {
            // Equal parts of whole tiles: a rest would be a slow product of few rows.
            nint parts = (hidden.Shape[0] + most - 1) / most;
            most = nint.Min(most, ((hidden.Shape[0] + parts - 1) / parts + RowAlignment - 1) / RowAlignment * RowAlignment);
        }

        Tensor buffer = _tape.Rent(new Shape(most, width), _activations);
        for (nint row = 0; row < hidden.Shape[0]; row += most)
        {
            nint rows = nint.Min(most, hidden.Shape[0] - row);
            Tensor part = hidden.Slice(row, rows), logits = buffer.Slice(0, rows);
            _backend.Kernels.MatMul(part, head, model.Head.Bias, logits);
            _backend.Gradients.CrossEntropy(logits, head.Out, targets.Slice(row, rows), scale, losses.Slice(row, rows));
            HeadBackward(part, logits, dHidden?.Slice(row, rows));
        }

        _tape.Return(buffer);
        return losses;
    }

    private void HeadBackward(Tensor hidden, Tensor dLogits, Tensor? dHidden)
    {
        IPackedWeight head = model.Head.Weight;
        if (dHidden is not null)
        {
            _backend.Gradients.MatMulInputInto(dLogits, head, dHidden);
        }

        if (parameters.Find(head) is { } weight)
        {
            parameters.AddProduct(weight, dLogits, hidden, _backend.Gradients);
        }

        if (parameters.Find(model.Head.Bias) is { } bias)
        {
            _backend.Gradients.SumRows(dLogits, bias.Gradient);
        }
    }

    /// <summary>A place before each row for every embedding of the prompt.</summary>
    private TrainingBatch WithPrompt(TrainingBatch batch)
    {
        if (prompt is null)
        {
            return batch;
        }

        int[] Widen(int[] values, int filler) => [.. values.Chunk(batch.Length).SelectMany(row => Enumerable.Repeat(filler, (int)prompt.Out).Concat(row))];
        return new TrainingBatch(Widen(batch.Ids, 0), Widen(batch.Targets, -1), batch.Batch, batch.Length + (int)prompt.Out);
    }

    private ModelInput Input(TrainingBatch batch, Tensor ids)
    {
        int first = prompt is null ? model.Virtual?.Count ?? 0 : 0;
        Tensor positions = Upload([.. Enumerable.Range(0, batch.Ids.Length).Select(i => first + (i % batch.Length) - (batch.Starts?[i] ?? 0))]);
        return new ModelInput(ids, positions, batch.Batch, batch.Length, batch.Starts is null ? null : Upload(batch.Starts));
    }

    private KvCache Cache(TrainingBatch batch)
    {
        if (_cache is null || _cache.Batch != batch.Batch || _cache.Capacity != batch.Length)
        {
            _cache?.Dispose();
            _cache = new KvCache(model, batch.Batch, batch.Length, prompt is null ? model.Virtual?.Count ?? 0 : 0, oneLayer: checkpoint, numbers: _activations, late: true);
        }

        return _cache;
    }

    private Tensor Upload(int[] values)
    {
        Tensor tensor = _workspace.Rent(new Shape(values.Length), DType.I32);
        _backend.Write<int>(values, tensor);
        return tensor;
    }
}
