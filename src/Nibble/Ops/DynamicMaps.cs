using Nibble.Quantization.Methods;

namespace Nibble.Ops;

/// <summary>The two maps of 256 values, whose steps grow with the magnitude, that 8-bit optimizer states use (arXiv 1511.04561, 2110.02861).</summary>
internal static class DynamicMaps
{
    private const int Exponents = 7;

    /// <summary>−1 to 1: for exponent i = 0 … 6 the middles of 2^i bins of [0.1, 1], times 10^(i − 6), both signs; 0; 1.</summary>
    public static float[] Signed { get; } = DoubleQuantization.Map;

    /// <summary>0 to 1: the same with twice as many bins.</summary>
    public static float[] Unsigned { get; } = [0, .. Enumerable.Range(0, Exponents).SelectMany(Middles), 1];

    /// <summary>Half-way points between the values of <see cref="Signed"/>.</summary>
    public static float[] SignedBounds { get; } = Bounds(Signed);

    /// <summary>Half-way points between the values of <see cref="Unsigned"/>.</summary>
    public static float[] UnsignedBounds { get; } = Bounds(Unsigned);

    private static IEnumerable<float> Middles(int exponent)
    {
        int bins = 2 << exponent;
        double power = Math.Pow(10, exponent - (Exponents - 1));
        return Enumerable.Range(0, bins).Select(bin => (float)((0.1 + (0.9 * (bin + 0.5) / bins)) * power));
    }

    private static float[] Bounds(float[] map) => [.. map.Zip(map.Skip(1), (low, high) => (low + high) / 2)];
}
