using System.Diagnostics;

namespace Nibble.Quantization;

/// <summary>Where the time of a quantization goes: seconds by phase. A phase within another one stops the outer one's clock.</summary>
internal sealed class PhaseTimes
{
    private readonly Dictionary<string, double> _seconds = [];
    private readonly Stack<string> _open = [];
    private long _since = Stopwatch.GetTimestamp();

    /// <summary>Seconds of each phase.</summary>
    public IReadOnlyDictionary<string, double> Seconds => _seconds;

    /// <summary>Starts a phase, which lasts until the scope is disposed.</summary>
    public Scope In(string phase)
    {
        Book();
        _open.Push(phase);
        return new Scope(this);
    }

    private void Book()
    {
        long now = Stopwatch.GetTimestamp();
        if (_open.TryPeek(out string? phase))
        {
            _seconds[phase] = _seconds.GetValueOrDefault(phase) + Stopwatch.GetElapsedTime(_since, now).TotalSeconds;
        }

        _since = now;
    }

    /// <summary>A phase that is open.</summary>
    public readonly struct Scope(PhaseTimes? times) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose()
        {
            times?.Book();
            times?._open.Pop();
        }
    }
}
