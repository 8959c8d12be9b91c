using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>What a safetensors header says about one tensor.</summary>
/// <param name="Name">The tensor's name.</param>
/// <param name="DTypeName">The element type as the file writes it, for example <c>F8_E4M3</c>.</param>
/// <param name="DType">The element type, or null if Nibble does not compute with it.</param>
/// <param name="Extents">The shape; any number of dimensions.</param>
/// <param name="Offset">First byte, counted from the beginning of the file.</param>
/// <param name="ByteLength">Number of bytes.</param>
public sealed record SafetensorsEntry(string Name, string DTypeName, DType? DType, IReadOnlyList<long> Extents, long Offset, long ByteLength)
{
    /// <summary>For example <c>[2, 3]</c>.</summary>
    public string ShapeText => "[" + string.Join(", ", Extents) + "]";

    /// <summary>Number of elements.</summary>
    public long Count => Extents.Aggregate(1L, (product, extent) => product * extent);

    /// <summary>The shape, for tensors of up to <see cref="Tensors.Shape.MaxRank"/> dimensions.</summary>
    public Shape Shape => new(Extents.Select(extent => checked((nint)extent)).ToArray());
}
