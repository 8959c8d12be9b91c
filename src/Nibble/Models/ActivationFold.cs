namespace Nibble.Models;

/// <summary>
/// A place in a block where a factor for each channel can move without changing what the block computes: the columns of the layers
/// that read an input are multiplied, and what gives that input is divided (AWQ, arXiv 2306.00978, section 3.2; SmoothQuant).
/// </summary>
/// <param name="Layers">Paths of the linear layers that read the input, all of them.</param>
/// <param name="Source">Path of the norm or of the linear layer that gives the input.</param>
/// <param name="IsNorm">The source is a norm: its weight, and its bias if it has one, are divided.</param>
public sealed record ActivationFold(IReadOnlyList<string> Layers, string Source, bool IsNorm)
{
    /// <summary>Why no factor can pass at this place; null if it can.</summary>
    public string? Obstacle { get; init; }

    /// <summary>Channels of the source; the layers may read one several times.</summary>
    public required int Channels { get; init; }

    /// <summary>A linear source: the row that gives channel 0 (the values of a fused query, key and value).</summary>
    public int FirstRow { get; init; }

    /// <summary>Consecutive channels that stay together when they are repeated: the width of an attention head.</summary>
    public int HeadDim { get; init; } = 1;

    /// <summary>How often each head is read: query heads that share a value head.</summary>
    public int Repeats { get; init; } = 1;

    /// <summary>The channel that a column of the layers reads.</summary>
    public int ChannelOf(int column) => Repeats == 1 ? column : (column / (HeadDim * Repeats) * HeadDim) + (column % HeadDim);
}
