using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Generation;

/// <summary>Steps of a row that is alone, over tensors of its own, so that a backend that can record work repeats them (<see cref="DecodeStep"/>).</summary>
internal sealed class LoneStep : IDisposable
{
    private readonly CausalModel _model;
    private readonly KvCache _cache;
    private readonly Workspace _workspace;
    private readonly Tensor _ids, _positions;
    private readonly DecodeStep _decode;

    public LoneStep(CausalModel model, KvCache cache)
    {
        (_model, _cache) = (model, cache);
        _workspace = new Workspace(model.Backend);
        _ids = model.Backend.Allocate(new Shape(1), DType.I32);
        _positions = model.Backend.Allocate(new Shape(1), DType.I32);
        Logits = model.Backend.Allocate(new Shape(1, model.Facts.Vocabulary), DType.F32);
        _decode = new DecodeStep(model, cache, Pass);
    }

    /// <summary>Logits after the last token.</summary>
    public Tensor Logits { get; }

    /// <summary>Runs one token.</summary>
    public void Run(int token)
    {
        _model.Backend.Write<int>([token], _ids);
        _model.Backend.Write<int>([_cache.Length], _positions);
        _decode.Run(_cache.Length);
    }

    public void Dispose()
    {
        _decode.Dispose();
        _workspace.Dispose();
        _ids.Dispose();
        _positions.Dispose();
        Logits.Dispose();
    }

    private void Pass()
    {
        using Workspace.Scope scope = _workspace.Begin();
        _model.Logits(_model.Forward(new ModelInput(_ids, _positions, 1, 1), _cache, _workspace), Logits);
    }
}
