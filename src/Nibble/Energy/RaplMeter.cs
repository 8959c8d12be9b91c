using System.Globalization;

namespace Nibble.Energy;

/// <summary>
/// The processor's own energy counters (RAPL), read through Linux' powercap tree: all packages, and memory where it is not part of
/// one. A counter wraps around after minutes under load, so it is read every few seconds and the differences are added. It counts
/// the whole package: other programs and the idle power are in it.
/// </summary>
public sealed class RaplMeter : IEnergyMeter
{
    /// <summary>Another powercap tree, for tests and containers that mount it elsewhere.</summary>
    public const string EnvironmentVariable = "NIBBLE_POWERCAP";

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);
    private readonly Lock _lock = new();
    private readonly Zone[] _zones;
    private readonly Timer _timer;
    private double _microjoules;

    private RaplMeter(Zone[] zones, TimeSpan interval)
    {
        _zones = zones;
        _timer = new Timer(_ => Tick(), null, interval, interval);
    }

    /// <summary>Where the tree is on this machine.</summary>
    public static string DefaultRoot => Environment.GetEnvironmentVariable(EnvironmentVariable) is { Length: > 0 } root ? root : "/sys/class/powercap";

    /// <inheritdoc/>
    public string Source => "rapl";

    /// <inheritdoc/>
    public string Description => $"RAPL counters of {string.Join(", ", _zones.Select(zone => zone.Name))}: whole packages, idle power and other programs included";

    /// <summary>A meter over the counters under <paramref name="root"/>, or null where there are none that may be read.</summary>
    public static RaplMeter? TryStart(string root) => TryStart(root, Interval);

    internal static RaplMeter? TryStart(string root, TimeSpan interval)
    {
        if (!Directory.Exists(root))
        {
            return null;
        }

        try
        {
            Zone[] zones = [.. Directory.EnumerateDirectories(root, "intel-rapl:*")
                .Order(StringComparer.Ordinal)
                .Select(folder => (Folder: folder, Name: File.ReadAllText(Path.Combine(folder, "name")).Trim()))
                .Where(zone => zone.Name.StartsWith("package", StringComparison.Ordinal) || zone.Name == "dram")
                .Select(zone => new Zone(zone.Folder, zone.Name))];
            return zones.Length == 0 ? null : new RaplMeter(zones, interval);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException)
        {
            // Since 2020 (PLATYPUS) kernels let only root read the counters: the estimate is used, and says that it is one.
            return null;
        }
    }

    /// <inheritdoc/>
    public double Joules()
    {
        lock (_lock)
        {
            foreach (Zone zone in _zones)
            {
                _microjoules += zone.Advance();
            }

            return _microjoules / 1e6;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    // An exception here would end the process, in the middle of a measurement: whoever asks next is told.
    private void Tick()
    {
        try
        {
            Joules();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException)
        {
        }
    }

    private sealed class Zone
    {
        private readonly string _counter;
        private readonly double _range;
        private double _last;

        public Zone(string folder, string name)
        {
            Name = name;
            _counter = Path.Combine(folder, "energy_uj");
            _range = Number(Path.Combine(folder, "max_energy_range_uj"));
            _last = Number(_counter);
        }

        public string Name { get; }

        /// <summary>Microjoules since the last call; a counter that went back has started again from 0.</summary>
        public double Advance()
        {
            double now = Number(_counter);
            double step = now >= _last ? now - _last : now + _range - _last;
            _last = now;
            return step;
        }

        private static double Number(string path) => double.Parse(File.ReadAllText(path).Trim(), CultureInfo.InvariantCulture);
    }
}
