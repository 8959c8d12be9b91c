using System.Diagnostics;
using Nibble.Backends;

namespace Nibble.Energy;

/// <summary>
/// An estimate where nothing can be measured: processor time of this process × the share of the processor's thermal design power
/// that falls to one hardware thread. It leaves out memory, disks, cooling and idle power; comparisons on one machine are fair,
/// absolute numbers may be wrong by a factor of two.
/// </summary>
public sealed class EstimateMeter : IEnergyMeter
{
    private readonly TimeSpan _start;
    private readonly ThermalPower _power;

    /// <summary>Starts to count processor time.</summary>
    public EstimateMeter()
    {
        _power = ThermalPower.Of(MachineFacts.Read().Processor);
        _start = ProcessorTime();
    }

    /// <inheritdoc/>
    public string Source => "estimate";

    /// <inheritdoc/>
    public string Description =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"estimate: processor time × {_power.WattsPerThread:0.00} W a hardware thread ({_power.Origin})");

    /// <inheritdoc/>
    public double Joules() => (ProcessorTime() - _start).TotalSeconds * _power.WattsPerThread;

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private static TimeSpan ProcessorTime()
    {
        using Process self = Process.GetCurrentProcess();
        return self.TotalProcessorTime;
    }
}
