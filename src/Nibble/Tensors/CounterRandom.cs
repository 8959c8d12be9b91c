namespace Nibble.Tensors;

/// <summary>Random numbers as a function of a key and a counter: nothing to store, nothing to rewind, the same on every thread.</summary>
public static class CounterRandom
{
    /// <summary>64 random bits for (key, counter): the finalizer of SplitMix64 (Steele et al. 2014) over both.</summary>
    public static ulong Bits(ulong key, ulong counter)
    {
        ulong z = key + ((counter + 1) * 0x9E3779B97F4A7C15UL);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return z ^ (z >> 31);
    }

    /// <summary>A key made of several numbers.</summary>
    public static ulong Key(params ReadOnlySpan<ulong> parts)
    {
        ulong key = 0;
        foreach (ulong part in parts)
        {
            key = Bits(key, part);
        }

        return key;
    }

    /// <summary>A key made of a text, the same in every process.</summary>
    public static ulong Key(string text)
    {
        ulong key = 0;
        foreach (char letter in text)
        {
            key = Bits(key, letter);
        }

        return key;
    }

    /// <summary>A number of the standard normal distribution (Box and Muller 1958).</summary>
    public static double Normal(ulong key, ulong counter) =>
        Math.Sqrt(-2 * Math.Log(1 - Uniform(key, 2 * counter))) * Math.Cos(2 * Math.PI * Uniform(key, (2 * counter) + 1));

    /// <summary>Puts items into an order that is a function of the key (Fisher and Yates).</summary>
    public static void Shuffle<T>(Span<T> items, ulong key)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = (int)(Bits(key, (ulong)i) % (ulong)(i + 1));
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    /// <summary>A number in [0, 1).</summary>
    public static double Uniform(ulong key, ulong counter) => (Bits(key, counter) >> 11) * (1.0 / (1UL << 53));
}
