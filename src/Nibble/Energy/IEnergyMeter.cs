using Nibble.Backends;

namespace Nibble.Energy;

/// <summary>Adds up the energy that is used from its creation on.</summary>
public interface IEnergyMeter : IDisposable
{
    /// <summary>What stands in results: <c>nvml</c>, <c>rapl</c> or <c>estimate</c>.</summary>
    string Source { get; }

    /// <summary>How the number comes about, in a sentence.</summary>
    string Description { get; }

    /// <summary>Joules since the meter was made.</summary>
    double Joules();
}

/// <summary>Chooses a meter for this machine.</summary>
public static class EnergyMeter
{
    /// <summary>The card's counter for work on a card, RAPL where its counters can be read, otherwise the estimate.</summary>
    public static IEnergyMeter Start(IBackend? backend = null) => NvmlMeter.TryStart(backend) ?? RaplMeter.TryStart(RaplMeter.DefaultRoot) ?? (IEnergyMeter)new EstimateMeter();
}
