using System.Globalization;
using Nibble.IO;

namespace Nibble.Quantization.Budget;

/// <summary>How large a quantized model may be: bits per weight of its quantized matrices, or bytes of its weight files.</summary>
public sealed record BudgetRequest
{
    private static readonly (string Unit, double Bytes)[] Units =
        [("KiB", 1024), ("MiB", 1024.0 * 1024), ("GiB", 1024.0 * 1024 * 1024), ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("B", 1)];

    /// <summary>Most stored bits per weight of the quantized matrices, scales and zero points included; null if bytes are given.</summary>
    public double? BitsPerWeight { get; init; }

    /// <summary>Most bytes of the weight files; null if bits are given.</summary>
    public long? MaxBytes { get; init; }

    /// <summary>Reads <c>4.25bpw</c> (or the number alone).</summary>
    /// <exception cref="NibbleException">Not a number of bits.</exception>
    public static BudgetRequest ParseBits(string text)
    {
        string number = text.EndsWith("bpw", StringComparison.OrdinalIgnoreCase) ? text[..^3] : text;
        if (!double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double bits) || bits is <= 0 or > 16)
        {
            Throw.Usage($"--budget {text}: not understood", "a budget is a number of bits per weight above 0, at most 16", "for example --budget 4.25bpw");
        }

        return new BudgetRequest { BitsPerWeight = bits };
    }

    /// <summary>Reads <c>3.2GB</c>, <c>900MiB</c>, or a number of bytes.</summary>
    /// <param name="text">The size.</param>
    /// <param name="option">What the user gave it to.</param>
    /// <exception cref="NibbleException">Not a size.</exception>
    public static BudgetRequest ParseBytes(string text, string option = "--max-bytes")
    {
        (string unit, double factor) = Units.FirstOrDefault(item => text.EndsWith(item.Unit, StringComparison.Ordinal), (string.Empty, 1));
        bool known = double.TryParse(text[..^unit.Length].TrimEnd(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number);
        double bytes = Math.Floor(number * factor);
        if (!known || bytes is < 1 or > 1e15)
        {
            Throw.Usage($"{option} {text}: not understood", "a size is a number with B, kB, MB, GB (or KiB, MiB, GiB)", $"for example {option} 3.2GB");
        }

        return new BudgetRequest { MaxBytes = (long)bytes };
    }

    /// <inheritdoc/>
    public override string ToString() => BitsPerWeight is { } bits
        ? string.Create(CultureInfo.InvariantCulture, $"{bits} bits per weight")
        : string.Create(CultureInfo.InvariantCulture, $"{MaxBytes:N0} bytes");
}
