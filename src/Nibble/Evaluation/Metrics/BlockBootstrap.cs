namespace Nibble.Evaluation.Metrics;

/// <summary>
/// 95 % intervals of means over tokens. Neighbouring tokens are not independent, so whole blocks of them are drawn again (circular
/// block bootstrap, Politis and Romano 1992), and the 2.5th and 97.5th percentile of the resampled means are the interval.
/// Deterministic: the seed alone decides which blocks are drawn, so that two models measured on the same tokens are resampled alike.
/// </summary>
public sealed class BlockBootstrap(ulong seed, int block = BlockBootstrap.DefaultBlock, int resamples = BlockBootstrap.DefaultResamples)
{
    /// <summary>Tokens of a block: longer than the functions and paragraphs that make losses alike. Of short texts an eighth of all.</summary>
    public const int DefaultBlock = 256;

    // A text of one block would be drawn as it is every time, and its interval would have no width.
    private const int LeastBlocks = 8;

    /// <summary>Times that the text is drawn again.</summary>
    public const int DefaultResamples = 2000;

    /// <summary>The interval of the mean of <paramref name="values"/>.</summary>
    public (double Low, double High) Mean(ReadOnlySpan<float> values)
    {
        double[] sums = CircularSums(values);
        int count = values.Length;
        int length = Math.Clamp(count / LeastBlocks, 1, block);
        int blocks = (count + length - 1) / length;
        double[] means = new double[resamples];
        SplitMix random = new(seed);
        for (int i = 0; i < resamples; i++)
        {
            double sum = 0;
            for (int b = 0; b < blocks; b++)
            {
                int start = random.Next(count);
                // The last block is cut, so that each resample has exactly as many tokens as the text.
                int taken = b == blocks - 1 ? count - (b * length) : length;
                sum += sums[start + taken] - sums[start];
            }

            means[i] = sum / count;
        }

        Array.Sort(means);
        return (Percentile(means, 0.025), Percentile(means, 0.975));
    }

    /// <summary>The interval of the mean difference of two measurements of the same tokens (paired).</summary>
    public (double Low, double High) MeanDifference(ReadOnlySpan<float> values, ReadOnlySpan<float> baseline)
    {
        float[] differences = new float[values.Length];
        for (int i = 0; i < differences.Length; i++)
        {
            differences[i] = values[i] - baseline[i];
        }

        return Mean(differences);
    }

    /// <summary>The value below which a share of sorted numbers lies, with linear interpolation.</summary>
    public static double Percentile(ReadOnlySpan<double> sorted, double share)
    {
        double position = share * (sorted.Length - 1);
        int below = (int)position;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((position - below) * (sorted[above] - sorted[below]));
    }

    // Running sums over the values written twice, so that a block may run over the end.
    private static double[] CircularSums(ReadOnlySpan<float> values)
    {
        double[] sums = new double[(2 * values.Length) + 1];
        for (int i = 0; i < 2 * values.Length; i++)
        {
            sums[i + 1] = sums[i] + values[i % values.Length];
        }

        return sums;
    }
}
