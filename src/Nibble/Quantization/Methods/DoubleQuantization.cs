namespace Nibble.Quantization.Methods;

/// <summary>
/// Scales in 8 bits: their mean is subtracted, blocks of 256 get an absmax, and each scale the nearest value of a signed map whose
/// steps grow with the magnitude ("dynamic tree", arXiv 1511.04561; QLoRA, section 3).
/// </summary>
internal static class DoubleQuantization
{
    private const int BlockSize = 256;

    /// <summary>The 256 values of the signed dynamic map, sorted.</summary>
    public static float[] Map { get; } = [.. Codebooks.DynamicMapHalf.Reverse().Select(value => -value), 0, .. Codebooks.DynamicMapHalf, 1];

    private static readonly float[] Bounds = [.. Map.Zip(Map.Skip(1), (low, high) => (low + high) / 2)];

    /// <summary>Quantizes the absmax values of a weight's blocks.</summary>
    public static NestedScales Of(float[] absmax)
    {
        float offset = (float)(absmax.Sum(value => (double)value) / Math.Max(1, absmax.Length));
        return Of(absmax, offset);
    }

    /// <summary>Quantizes values less a given offset.</summary>
    public static NestedScales Of(float[] absmax, float offset)
    {
        const float smallest = 1e-38f;
        byte[] codes = new byte[absmax.Length];
        float[] scales = new float[(absmax.Length + BlockSize - 1) / BlockSize];
        float[] centred = [.. absmax.Select(value => value - offset)];
        for (int block = 0; block < scales.Length; block++)
        {
            int start = block * BlockSize, length = Math.Min(BlockSize, centred.Length - start);
            float largest = VectorSearch.AbsMax(centred.AsSpan(start, length));
            float divisor = MathF.Max(largest, smallest);
            bool whole = length == BlockSize;
            scales[block] = whole ? largest : divisor;
            float factor = 1 / divisor;
            for (int i = start; i < start + length; i++)
            {
                codes[i] = NearestLower(whole ? centred[i] * factor : centred[i] / divisor);
            }
        }

        return new NestedScales(codes, scales, Map, offset, BlockSize);
    }

    /// <summary>The nearest place of the map, ties to the lower one.</summary>
    private static byte NearestLower(float value)
    {
        int place = Array.BinarySearch(Bounds, Math.Clamp(value, -1, 1));
        return (byte)(place >= 0 ? place : ~place);
    }
}
