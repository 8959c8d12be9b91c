using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Benchmarks;

/// <summary>
/// Passes of one sequence through a model, timed without the choice of tokens. The tokens depend on their position alone, so what a
/// pass leaves in the cache is the same each time.
/// </summary>
internal sealed class SpeedRun : IDisposable
{
    // As in generation: long prompts run in pieces.
    private const int PieceTokens = 512;

    private readonly CausalModel _model;
    private readonly KvCache _cache;
    private readonly Workspace _workspace;
    private readonly Tensor _logits;

    public SpeedRun(CausalModel model, int capacity)
    {
        _model = model;
        _cache = new KvCache(model, 1, capacity);
        _workspace = new Workspace(model.Backend);
        _logits = model.Backend.Allocate(new Shape(1, model.Facts.Vocabulary), DType.F32);
    }

    /// <summary>Bytes of the cache.</summary>
    public long CacheBytes => _cache.ByteLength;

    /// <summary>Bytes that decoding one token after <paramref name="depth"/> others reads: all weights but an embedding of its own, and the cache.</summary>
    public double BytesPerToken(double depth)
    {
        (string _, IPackedWeight embedding) = _model.Weights.First();
        long gathered = ReferenceEquals(embedding, _model.Head.Weight) ? 0 : embedding.ByteLength;
        return _model.Weights.Sum(item => (long)item.Weight.ByteLength) - gathered + (CacheBytes * depth / (_cache.First + _cache.Capacity));
    }

    /// <summary>Seconds from the tokens of a prompt to the logits after it, from an empty cache.</summary>
    public double Prefill(IBackend backend, int tokens)
    {
        _cache.Reset();
        double start = SpeedClock.Now;
        for (int done = 0; done < tokens; done += PieceTokens)
        {
            int count = Math.Min(PieceTokens, tokens - done);
            Pass(backend, count, logits: done + count == tokens);
        }

        return SpeedClock.Now - start;
    }

    /// <summary>Seconds to decode <paramref name="tokens"/> one by one after <paramref name="depth"/> others, which are in the cache already.</summary>
    public double Decode(IBackend backend, int depth, int tokens)
    {
        _cache.Length = _cache.First + depth;
        double start = SpeedClock.Now;
        for (int i = 0; i < tokens; i++)
        {
            Pass(backend, 1, logits: true);
        }

        return SpeedClock.Now - start;
    }

    public void Dispose()
    {
        _logits.Dispose();
        _workspace.Dispose();
        _cache.Dispose();
    }

    private void Pass(IBackend backend, int count, bool logits)
    {
        int first = _cache.Length;
        int[] places = [.. Enumerable.Range(first, count)];
        using Workspace.Scope scope = _workspace.Begin();
        using Tensor ids = TokenBatch.Upload(backend, [.. places.Select(place => (int)(place * 37L % _model.Facts.Vocabulary))]);
        using Tensor positions = TokenBatch.Upload(backend, places);
        Pass pass = new(backend, _workspace, new ModelInput(ids, positions, 1, count), _cache) { Virtual = _model.Virtual };
        Tensor hidden = _model.Forward(pass, CausalModel.RunBlock);
        _cache.Length += count;
        if (logits)
        {
            Ops.MatMul.Forward(backend, hidden.Slice(count - 1, 1), _model.Head.Weight, _model.Head.Bias, _logits);
        }

        backend.Synchronize();
    }
}
