using System.Runtime.Intrinsics;

namespace Nibble.Quantization.Methods;

/// <summary>
/// The inner loops of quantization, eight numbers at a time: ranges, rounding to codes, nearest levels. Every element goes
/// through the same IEEE operations as in the scalar tail, so results do not depend on the processor.
/// </summary>
internal static class VectorSearch
{
    /// <summary>Smallest and largest value; (0, 0) for none.</summary>
    public static (float Min, float Max) Range(ReadOnlySpan<float> values)
    {
        if (values.IsEmpty)
        {
            return (0, 0);
        }

        Vector256<float> low = Vector256.Create(values[0]), high = low;
        int i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> x = Vector256.Create(values[i..]);
            low = Vector256.Min(low, x);
            high = Vector256.Max(high, x);
        }

        float min = low[0], max = high[0];
        for (int lane = 1; lane < Vector256<float>.Count; lane++)
        {
            min = MathF.Min(min, low[lane]);
            max = MathF.Max(max, high[lane]);
        }

        for (; i < values.Length; i++)
        {
            min = MathF.Min(min, values[i]);
            max = MathF.Max(max, values[i]);
        }

        return (min, max);
    }

    /// <summary>Largest magnitude; 0 for none.</summary>
    public static float AbsMax(ReadOnlySpan<float> values)
    {
        (float min, float max) = Range(values);
        return MathF.Max(MathF.Abs(min), MathF.Abs(max));
    }

    /// <summary>codes = clamp(round((values − origin) / scale) + zero, lowest, highest), rounding halves to even.</summary>
    public static void Divide(ReadOnlySpan<float> values, in CodeGrid grid, Span<byte> codes)
    {
        Vector256<float> origin = Vector256.Create(grid.Origin), scale = Vector256.Create(grid.Scale), zero = Vector256.Create(grid.Zero);
        Vector256<float> lowest = Vector256.Create(grid.Lowest), highest = Vector256.Create(grid.Highest);
        int i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> q = Vector256.Round((Vector256.Create(values[i..]) - origin) / scale) + zero;
            Store(Vector256.Min(Vector256.Max(q, lowest), highest), codes[i..]);
        }

        for (; i < values.Length; i++)
        {
            codes[i] = (byte)MathF.Min(MathF.Max(MathF.Round((values[i] - grid.Origin) / grid.Scale) + grid.Zero, grid.Lowest), grid.Highest);
        }
    }

    /// <summary>codes = clamp(round(values · factor) + zero, lowest, highest), rounding halves to even.</summary>
    public static void Multiply(ReadOnlySpan<float> values, float factor, in CodeGrid grid, Span<byte> codes)
    {
        Vector256<float> zero = Vector256.Create(grid.Zero), lowest = Vector256.Create(grid.Lowest), highest = Vector256.Create(grid.Highest);
        int i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> q = Vector256.Round(Vector256.Create(values[i..]) * factor) + zero;
            Store(Vector256.Min(Vector256.Max(q, lowest), highest), codes[i..]);
        }

        for (; i < values.Length; i++)
        {
            codes[i] = (byte)MathF.Min(MathF.Max(MathF.Round(values[i] * factor) + grid.Zero, grid.Lowest), grid.Highest);
        }
    }

    /// <summary>
    /// ranks = number of bounds that lie below each value scaled by <paramref name="factor"/>: the place of the nearest of
    /// sorted levels, ties to the lower one. For up to a dozen and a few bounds, comparing with all beats a search with jumps.
    /// </summary>
    public static void Rank(ReadOnlySpan<float> values, float factor, ReadOnlySpan<float> bounds, Span<byte> ranks)
    {
        int i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> x = Vector256.Create(values[i..]) * factor;
            Vector256<int> below = Vector256<int>.Zero;
            foreach (float bound in bounds)
            {
                below -= Vector256.GreaterThan(x, Vector256.Create(bound)).AsInt32();
            }

            Store(below, ranks[i..]);
        }

        for (; i < values.Length; i++)
        {
            ranks[i] = (byte)RankOf(values[i] * factor, bounds);
        }
    }

    /// <summary>Number of bounds below a value.</summary>
    public static int RankOf(float value, ReadOnlySpan<float> bounds)
    {
        int rank = 0;
        foreach (float bound in bounds)
        {
            rank += value > bound ? 1 : 0;
        }

        return rank;
    }

    private static void Store(Vector256<float> codes, Span<byte> target) => Store(Vector256.ConvertToInt32(codes), target);

    private static void Store(Vector256<int> codes, Span<byte> target)
    {
        Vector128<ushort> words = Vector128.Narrow(codes.GetLower().AsUInt32(), codes.GetUpper().AsUInt32());
        Vector128.Narrow(words, words).GetLower().CopyTo(target);
    }
}

/// <summary>How values of a group become codes.</summary>
/// <param name="Origin">Subtracted first.</param>
/// <param name="Scale">Distance of two codes.</param>
/// <param name="Zero">Added to the rounded quotient.</param>
/// <param name="Lowest">Smallest code.</param>
/// <param name="Highest">Largest code.</param>
internal readonly record struct CodeGrid(float Origin, float Scale, float Zero, float Lowest, float Highest);
