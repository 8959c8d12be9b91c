using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>What the header of a GGUF file says about a tensor.</summary>
/// <param name="Name">Its name, for example <c>blk.0.attn_q.weight</c>.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Extents">The shape, outermost first, as everywhere in Nibble (the file has it the other way round).</param>
/// <param name="Offset">First byte in the file.</param>
/// <param name="ByteLength">Bytes of all blocks.</param>
public sealed record GgufTensor(string Name, GgufType Type, IReadOnlyList<long> Extents, long Offset, long ByteLength)
{
    /// <summary>Number of elements.</summary>
    public long Count => Extents.Aggregate(1L, (product, extent) => product * extent);

    /// <summary>The shape.</summary>
    public Shape Shape => new(Extents.Select(extent => (nint)extent).ToArray());

    /// <summary>The shape as a text.</summary>
    public string ShapeText => $"[{string.Join(", ", Extents)}]";
}
