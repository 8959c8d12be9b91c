using Nibble.Backends;

namespace Nibble.Models;

/// <summary>
/// Passes of one token per row over the same tensors. The first runs as it is and takes all memory that it needs; where the backend can
/// record work, the second is recorded and repeated from then on.
/// </summary>
internal sealed class DecodeStep(CausalModel model, KvCache cache, Action pass) : IDisposable
{
    private readonly IStepRecorder? _recorder = model.Backend as IStepRecorder;

    private IRecordedStep? _recorded;
    private int _runs;

    /// <summary>Runs the pass for the token of <paramref name="slot"/>, where the cache ends; the cache grows by it.</summary>
    public void Run(int slot)
    {
        // A row's first token comes with its virtual tokens, which no later one writes.
        bool first = model.Virtual is not null && slot == cache.First;
        if (!first && _runs++ == 1)
        {
            _recorded = _recorder?.Record(pass);
            cache.Length = slot;
        }

        if (_recorded is null || first)
        {
            pass();
            return;
        }

        _recorded.Replay(slot);
        cache.Length = slot + 1;
    }

    public void Dispose() => _recorded?.Dispose();
}
