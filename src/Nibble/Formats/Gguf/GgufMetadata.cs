using System.Diagnostics.CodeAnalysis;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>The metadata of a GGUF file: values by key, and typed access whose refusals name file, key and value.</summary>
public sealed class GgufMetadata
{
    private readonly Dictionary<string, GgufValue> _values;

    internal GgufMetadata(string path, Dictionary<string, GgufValue> values) => (Path, _values) = (path, values);

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>All values, in the order of the file.</summary>
    public IReadOnlyCollection<GgufValue> Values => _values.Values;

    /// <summary>The value of a key, or null.</summary>
    public GgufValue? this[string key] => _values.GetValueOrDefault(key);

    /// <summary>True if the key is there.</summary>
    public bool Has(string key) => _values.ContainsKey(key);

    /// <summary>A whole number, of any integer type; an array of equal numbers counts as that number.</summary>
    /// <param name="key">The key.</param>
    /// <param name="fallback">The value of an absent key; without it an absent key is refused.</param>
    /// <param name="min">Smallest value that makes sense.</param>
    /// <param name="max">Largest value that makes sense.</param>
    public int Int(string key, int? fallback = null, int min = 0, int max = int.MaxValue)
    {
        if (this[key] is not { } value)
        {
            return fallback ?? Missing<int>(key);
        }

        long[] numbers = [.. value.Integers().Distinct()];
        if (numbers.Length != 1)
        {
            value.Refuse("models whose layers differ in this number are not supported");
        }

        if (numbers[0] < min || numbers[0] > max)
        {
            value.Refuse($"expected a number from {min} to {max}");
        }

        return (int)numbers[0];
    }

    /// <summary>A real number.</summary>
    public double Number(string key, double? fallback = null)
    {
        if (this[key] is not { } value)
        {
            return fallback ?? Missing<double>(key);
        }

        double number = value.IsArray ? double.NaN : value.Numbers()[0];
        if (!double.IsFinite(number))
        {
            value.Refuse("expected one finite number");
        }

        return number;
    }

    /// <summary>True or false, or <paramref name="fallback"/> if the key is absent.</summary>
    public bool Bool(string key, bool fallback) => this[key]?.Boolean() ?? fallback;

    /// <summary>A text, or <paramref name="fallback"/> if the key is absent.</summary>
    [return: NotNullIfNotNull(nameof(fallback))]
    public string? Text(string key, string? fallback) => this[key]?.Text() ?? fallback;

    /// <summary>A text; an absent key is refused.</summary>
    public string Text(string key) => Text(key, null) ?? Missing<string>(key);

    [DoesNotReturn]
    private T Missing<T>(string key)
    {
        Throw.BadInput($"{Path}: {key} is missing", "the model cannot be built without it", "the file is damaged, or was written by a faulty tool");
        return default;
    }
}
