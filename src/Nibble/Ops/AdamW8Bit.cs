using Nibble.Backends;

namespace Nibble.Ops;

/// <summary>AdamW with moments in 8-bit codes; see <see cref="AdamW8BitArguments"/>.</summary>
internal static class AdamW8Bit
{
    /// <summary>The definition, in double precision: decode, step, encode with the blocks' new magnitudes.</summary>
    public static void Reference(in AdamW8BitArguments a)
    {
        Span<float> values = a.Values.HostSpan<float>(), gradient = a.Gradient.HostSpan<float>();
        for (int start = 0; start < values.Length; start += AdamW8BitArguments.BlockSize)
        {
            int count = Math.Min(AdamW8BitArguments.BlockSize, values.Length - start), block = start / AdamW8BitArguments.BlockSize;
            double[] first = new double[count], second = new double[count];
            for (int i = 0; i < count; i++)
            {
                double slope = (double)gradient[start + i] * a.GradientScale;
                double oldFirst = (double)DynamicMaps.Signed[a.First.HostSpan<byte>()[start + i]] * a.FirstScales.HostSpan<float>()[block];
                double oldSecond = (double)DynamicMaps.Unsigned[a.Second.HostSpan<byte>()[start + i]] * a.SecondScales.HostSpan<float>()[block];
                first[i] = (oldFirst * a.Beta1) + ((1 - (double)a.Beta1) * slope);
                second[i] = (oldSecond * a.Beta2) + ((1 - (double)a.Beta2) * slope * slope);
                double root = Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step)), step = a.LearningRate * root / (1 - Math.Pow(a.Beta1, a.Step));
                double moved = values[start + i] - (step * first[i] / (Math.Sqrt(second[i]) + (root * a.Epsilon)));
                values[start + i] = (float)(moved * (1 - ((double)a.LearningRate * a.WeightDecay)));
            }

            a.FirstScales.HostSpan<float>()[block] = (float)Encode(first, DynamicMaps.Signed, a.First.HostSpan<byte>()[start..]);
            a.SecondScales.HostSpan<float>()[block] = (float)Encode(second, DynamicMaps.Unsigned, a.Second.HostSpan<byte>()[start..]);
        }
    }

    private static double Encode(double[] values, float[] map, Span<byte> codes)
    {
        double largest = values.Max(Math.Abs);
        for (int i = 0; i < values.Length; i++)
        {
            double share = largest > 0 ? values[i] / largest : 0;
            int best = Enumerable.Range(0, map.Length).MinBy(code => Math.Abs(map[code] - share));
            // A mean keeps its sign: it would otherwise push nowhere, or the other way.
            codes[i] = (byte)(share < 0 && map[best] >= 0 ? best - 1 : share > 0 && map[best] < 0 ? best + 1 : best);
        }

        return largest;
    }
}
