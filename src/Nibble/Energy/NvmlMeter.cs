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
    private static readonly TimeSpan IdleTime = TimeSpan.FromSeconds(1);
    private readonly Func<double?> _counter;
    private readonly double _start;
    private readonly long _since;

    internal NvmlMeter(Func<double?> counter, double start, TimeSpan idleTime)
    {
        _counter = counter;
        long began = Stopwatch.GetTimestamp();
        Thread.Sleep(idleTime);
        _since = Stopwatch.GetTimestamp();
        _start = counter() ?? start;
        IdleWatts = (_start - start) / Stopwatch.GetElapsedTime(began, _since).TotalSeconds;
    }

    /// <inheritdoc/>
    public string Source => "nvml";

    /// <inheritdoc/>
    public string Description => string.Create(
        CultureInfo.InvariantCulture, $"NVML energy counter: {TotalJoules():0.#} J in all, {IdleWatts:0.#} W × time subtracted (the card waiting, measured before); the processor is not in it");

    /// <summary>What the card drew while it waited, before the work.</summary>
    public double IdleWatts { get; }

    /// <summary>The counter's own difference, nothing subtracted.</summary>
    public double TotalJoules() => (_counter() ?? _start) - _start;

    /// <inheritdoc/>
    public double Joules() => Math.Max(0, TotalJoules() - (IdleWatts * Stopwatch.GetElapsedTime(_since).TotalSeconds));

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
        return Nvml.Joules(card) is { } start ? new NvmlMeter(() => Nvml.Joules(card), start, IdleTime) : null;
    }
}
