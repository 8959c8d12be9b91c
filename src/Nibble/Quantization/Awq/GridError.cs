using System.Runtime.Intrinsics;
using Nibble.Quantization.Methods;

namespace Nibble.Quantization.Awq;

/// <summary>What rounding to a grid with a zero point does to values, without making codes.</summary>
internal static class GridError
{
    /// <summary>error = w − ŵ with ŵ = (clamp(round(w / scale) + zero) − zero) · scale.</summary>
    public static void Of(ReadOnlySpan<float> values, in CodeGrid grid, Span<float> error)
    {
        Vector256<float> scale = Vector256.Create(grid.Scale), zero = Vector256.Create(grid.Zero);
        Vector256<float> lowest = Vector256.Create(grid.Lowest), highest = Vector256.Create(grid.Highest);
        int i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> w = Vector256.Create(values[i..]);
            Vector256<float> q = Vector256.Min(Vector256.Max(Vector256.Round(w / scale) + zero, lowest), highest);
            (w - ((q - zero) * scale)).CopyTo(error[i..]);
        }

        for (; i < values.Length; i++)
        {
            float q = MathF.Min(MathF.Max(MathF.Round(values[i] / grid.Scale) + grid.Zero, grid.Lowest), grid.Highest);
            error[i] = values[i] - ((q - grid.Zero) * grid.Scale);
        }
    }
}
