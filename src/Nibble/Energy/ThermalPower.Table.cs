namespace Nibble.Energy;

/// <summary>Thermal design power of processors, as their makers publish it, shared among their hardware threads.</summary>
/// <param name="WattsPerThread">Watts of one busy hardware thread.</param>
/// <param name="Origin">Which processor the number is of.</param>
internal sealed record ThermalPower(double WattsPerThread, string Origin)
{
    // Name as it stands in the processor's own name, watts, hardware threads (makers' data sheets).
    private static readonly (string Name, double Watts, int Threads)[] Known =
    [
        ("EPYC 7551", 180, 64), ("EPYC 7742", 225, 128), ("EPYC 7763", 280, 128), ("EPYC 9554", 360, 128), ("EPYC 9654", 360, 192),
        ("Ryzen 7 5800X", 105, 16), ("Ryzen 9 5950X", 105, 32), ("Ryzen 9 7950X", 170, 32),
        ("Platinum 8280", 205, 56), ("Platinum 8259CL", 210, 48), ("Platinum 8375C", 300, 64), ("Platinum 8380", 270, 80), ("Platinum 8480", 350, 112),
        ("Gold 6248", 150, 40), ("Silver 4316", 150, 40), ("i9-13900K", 125, 32), ("i7-12700K", 125, 20),
    ];

    // EPYC server processors of the table: 1.8 to 2.8 W; Xeon: 3.1 to 4.7 W; desktop processors: 3.3 to 6.6 W.
    private static readonly ThermalPower Unknown = new(3.5, "unknown processor: middle of the table in docs/energy.md");

    /// <summary>The power of a processor by the name that the system gives it.</summary>
    public static ThermalPower Of(string processor)
    {
        foreach ((string name, double watts, int threads) in Known)
        {
            if (processor.Contains(name, StringComparison.OrdinalIgnoreCase))
            {
                return new ThermalPower(watts / threads, $"{name}: {watts} W TDP / {threads} threads");
            }
        }

        return Unknown;
    }
}
