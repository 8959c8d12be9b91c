using Nibble.IO;

namespace Nibble.Quantization.Calibration;

/// <summary>Chooses the samples of a calibration from a tokenized text.</summary>
public static class CalibrationSamples
{
    /// <summary>
    /// <paramref name="count"/> windows of <paramref name="length"/> tokens: the text is cut into windows, and the seed decides which
    /// ones. If the text has fewer whole windows than asked for, windows also start at half a window; that is still different text
    /// in every window, but neighbours overlap.
    /// </summary>
    /// <exception cref="NibbleException">The text is too short; the message says how much is missing.</exception>
    public static IReadOnlyList<int[]> Choose(int[] tokens, int count, int length, int seed)
    {
        if (count < 1 || length < 2)
        {
            Throw.Usage($"{count} calibration samples of {length} tokens make no sense", "at least one sample of two tokens is needed", "raise --samples or --sample-length");
        }

        int step = tokens.Length / length >= count ? length : Math.Max(1, length / 2);
        int windows = tokens.Length < length ? 0 : ((tokens.Length - length) / step) + 1;
        if (windows < count)
        {
            long needed = ((long)(count - 1) * Math.Max(1, length / 2)) + length;
            Throw.BadInput(
                $"the calibration text is too short: {tokens.Length:N0} tokens, {needed:N0} are needed for {count} samples of {length}",
                $"it has {windows} different windows",
                $"give {needed - tokens.Length:N0} tokens more, or lower --samples or --sample-length");
        }

        int[] starts = [.. Enumerable.Range(0, windows).Select(i => i * step)];
        new Random(seed).Shuffle(starts);
        return [.. starts.Take(count).Select(start => tokens[start..(start + length)])];
    }
}
