using System.Diagnostics;
using System.Globalization;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;

namespace Nibble.Energy;

/// <summary>
/// The energy counter of an NVIDIA card. What the card draws while it waits is measured first, and subtracted; both numbers are told.
/// The processor's share is not in it.
/// </summary>
public sealed class NvmlMeter : IEnergyMeter
{
    private static readonly TimeSpan IdleTime = TimeSpan.FromSeconds(1), Poll = TimeSpan.FromMilliseconds(1), LongestTick = TimeSpan.FromMilliseconds(250);
    private readonly Func<double?> _counter;
    private readonly Func<TimeSpan> _clock;
    private readonly Action<TimeSpan> _sleep;
    private readonly Reading _start;
    private Reading _last;

    // The counter goes on in steps of tens of milliseconds: work of less than a second is read from step to step.
    internal NvmlMeter(Func<double?> counter, Func<TimeSpan> clock, Action<TimeSpan> sleep)
    {
        (_counter, _clock, _sleep) = (counter, clock, sleep);
        _last = new Reading(counter() ?? 0, clock());
        Reading before = Next();
        sleep(IdleTime);
        _last = _start = Next();
        IdleWatts = (_start.Joules - before.Joules) / (_start.Time - before.Time).TotalSeconds;
    }

    /// <inheritdoc/>
    public string Source => "nvml";

    /// <inheritdoc/>
    public string Description => "NVML energy counter of the card, less what it drew while it waited (measured for a second just before); the processor is not in it";

    /// <summary>The numbers behind the last <see cref="Joules"/>.</summary>
    public string Numbers => string.Create(
        CultureInfo.InvariantCulture, $"NVML energy counter: {TotalJoules:0.#} J in all, less {IdleWatts:0.#} W (the card waiting, measured before) for {(_last.Time - _start.Time).TotalSeconds:0.##} s; the processor is not in it");

    /// <summary>What the card drew while it waited, before the work.</summary>
    public double IdleWatts { get; }

    /// <summary>The counter's own difference up to the last <see cref="Joules"/>, nothing subtracted.</summary>
    public double TotalJoules => _last.Joules - _start.Joules;

    /// <inheritdoc/>
    public double Joules()
    {
        _last = Next();
        return Math.Max(0, TotalJoules - (IdleWatts * (_last.Time - _start.Time).TotalSeconds));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    /// <summary>A meter of the card that a backend works on, or null where there is none with a counter.</summary>
    internal static NvmlMeter? TryStart(IBackend? backend)
    {
        if (backend is not CudaBackend { PciBusId: { } card })
        {
            return null;
        }

        backend.Synchronize();
        long since = Stopwatch.GetTimestamp();
        return Nvml.Joules(card) is null ? null : new NvmlMeter(() => Nvml.Joules(card), () => Stopwatch.GetElapsedTime(since), Thread.Sleep);
    }

    // The counter where it has just moved; where it does not move, as it stands.
    private Reading Next()
    {
        double first = _counter() ?? _last.Joules, now = first;
        for (TimeSpan waited = TimeSpan.Zero; now == first && waited < LongestTick; waited += Poll)
        {
            _sleep(Poll);
            now = _counter() ?? first;
        }

        return new Reading(now, _clock());
    }

    private readonly record struct Reading(double Joules, TimeSpan Time);
}
