using Nibble.Energy;
using Nibble.IO;

namespace Nibble.Tests.Energy;

/// <summary>RAPL on a powercap tree of ordinary files, the estimate, and carbon intensities.</summary>
public sealed class EnergyTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("nibble-powercap-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private void Zone(string folder, string name, long microjoules, long range = 1_000_000_000)
    {
        string path = Directory.CreateDirectory(Path.Combine(_root, folder)).FullName;
        File.WriteAllText(Path.Combine(path, "name"), name + "\n");
        File.WriteAllText(Path.Combine(path, "max_energy_range_uj"), range + "\n");
        Count(folder, microjoules);
    }

    private void Count(string folder, long microjoules) => File.WriteAllText(Path.Combine(_root, folder, "energy_uj"), microjoules + "\n");

    [Fact]
    public void Packages_and_memory_are_added_cores_are_not()
    {
        Zone("intel-rapl:0", "package-0", 500);
        Zone("intel-rapl:0:0", "core", 100);
        Zone("intel-rapl:0:1", "dram", 900);
        Zone("intel-rapl:1", "package-1", 0);
        using RaplMeter meter = RaplMeter.TryStart(_root)!;
        Count("intel-rapl:0", 2_000_500);
        Count("intel-rapl:0:0", 1_500_100);
        Count("intel-rapl:0:1", 500_900);
        Count("intel-rapl:1", 250_000);
        Assert.Equal(2.75, meter.Joules(), 9);
        Assert.Equal("rapl", meter.Source);
        Assert.Contains("package-0, dram, package-1", meter.Description, StringComparison.Ordinal);
    }

    [Fact]
    public void A_counter_that_starts_again_from_zero_goes_on()
    {
        Zone("intel-rapl:0", "package-0", 9_000_000, range: 10_000_000);
        using RaplMeter meter = RaplMeter.TryStart(_root)!;
        Count("intel-rapl:0", 500_000);
        Assert.Equal(1.5, meter.Joules(), 9);
        Count("intel-rapl:0", 9_500_000);
        Assert.Equal(10.5, meter.Joules(), 9);
        Count("intel-rapl:0", 0);
        Assert.Equal(11, meter.Joules(), 9);
    }

    [Fact]
    public void A_counter_that_goes_away_is_told_to_who_asks_and_ends_nothing()
    {
        Zone("intel-rapl:0", "package-0", 500);
        using RaplMeter meter = RaplMeter.TryStart(_root, TimeSpan.FromMilliseconds(1))!;
        File.Delete(Path.Combine(_root, "intel-rapl:0", "energy_uj"));
        Thread.Sleep(50);
        Assert.Throws<FileNotFoundException>(() => meter.Joules());
        Count("intel-rapl:0", 3_000_500);
        Assert.Equal(3, meter.Joules(), 9);
    }

    [Fact]
    public void Without_counters_there_is_no_meter()
    {
        Assert.Null(RaplMeter.TryStart(_root));
        Assert.Null(RaplMeter.TryStart(Path.Combine(_root, "missing")));
        Zone("intel-rapl:0", "psys", 1);
        Assert.Null(RaplMeter.TryStart(_root));
        Zone("intel-rapl:1", "package-0", 1);
        File.WriteAllText(Path.Combine(_root, "intel-rapl:1", "energy_uj"), "no number");
        Assert.Null(RaplMeter.TryStart(_root));
    }

    [Fact]
    public void What_a_card_draws_while_it_waits_is_measured_and_subtracted()
    {
        // 100 W waiting, 340 W working; the counter moves every 70 ms.
        TimeSpan now = TimeSpan.Zero, busy = TimeSpan.MaxValue;
        double? Counter()
        {
            double at = Math.Floor(now.TotalSeconds / 0.07) * 0.07;
            return (100 * at) + (busy > now ? 0 : 240 * Math.Max(0, at - busy.TotalSeconds));
        }

        NvmlMeter meter = new(Counter, () => now, time => now += time);
        busy = now;
        now += TimeSpan.FromSeconds(0.31);
        Assert.InRange(meter.Joules(), 240 * 0.31, 240 * 0.39);
        Assert.InRange(meter.IdleWatts, 99.5, 100.5);
        Assert.InRange(meter.TotalJoules, 340 * 0.31, 340 * 0.45);
        Assert.Contains("J in all, less 100 W", meter.Numbers, StringComparison.Ordinal);
    }

    [Fact]
    public void The_estimate_follows_processor_time()
    {
        using EstimateMeter meter = new();
        double x = 0;
        for (int i = 0; i < 20_000_000; i++)
        {
            x += Math.Sqrt(i);
        }

        Assert.True(x > 0);
        Assert.InRange(meter.Joules(), 0.0001, 1000);
        Assert.Equal("estimate", meter.Source);
        Assert.StartsWith("estimate: processor time", meter.Description, StringComparison.Ordinal);
    }

    [Fact]
    public void Power_of_known_and_unknown_processors()
    {
        Assert.Equal(280.0 / 128, ThermalPower.Of("AMD EPYC 7763 64-Core Processor").WattsPerThread, 9);
        Assert.Contains("unknown", ThermalPower.Of("Some Processor").Origin, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ES")]
    [InlineData("esp")]
    [InlineData(" Spain ")]
    public void Countries_by_name_and_code(string country)
    {
        CarbonIntensity found = CarbonIntensity.Find(country);
        Assert.Equal(174, found.GramsPerKilowattHour);
        // One kilowatt hour.
        Assert.Equal(174, found.Grams(3.6e6), 9);
    }

    [Fact]
    public void An_unknown_country_gets_the_list()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => CarbonIntensity.Find("Atlantis"));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("Germany (DE)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_table_is_sound()
    {
        Assert.InRange(CarbonIntensity.All.Count, 40, 250);
        Assert.All(CarbonIntensity.All, entry => Assert.InRange(entry.GramsPerKilowattHour, 10, 900));
        Assert.All(CarbonIntensity.All, entry => Assert.InRange(entry.Year, 2020, 2025));
        Assert.Equal(CarbonIntensity.All.Count, CarbonIntensity.All.Select(entry => entry.Alpha2).Distinct().Count());
    }
}
