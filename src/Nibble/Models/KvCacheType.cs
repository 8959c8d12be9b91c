using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Numbers in which a cache keeps keys and values.</summary>
public enum KvCacheType
{
    /// <summary>F32: exact.</summary>
    F32,

    /// <summary>Half precision: half the memory.</summary>
    F16,

    /// <summary>BF16: half the memory, the range of F32, 8 bits of precision.</summary>
    BF16,

    /// <summary>8 bits, with one scale for each token's key and value of each head: a little more than a quarter of the memory.</summary>
    Int8,
}

/// <summary>How a cache's tensors look.</summary>
internal static class KvCacheTypes
{
    /// <summary>The name in results; null for F32.</summary>
    public static string? Name(this KvCacheType type) => type == KvCacheType.F32 ? null : type.ToString().ToLowerInvariant();

    /// <summary>Dtype of the tensors.</summary>
    public static DType Storage(this KvCacheType type) => type switch
    {
        KvCacheType.F16 => DType.F16,
        KvCacheType.BF16 => DType.BF16,
        KvCacheType.Int8 => DType.U8,
        _ => DType.F32,
    };

    /// <summary>Elements of a row: 8-bit codes have an F32 scale before them.</summary>
    public static int Columns(this KvCacheType type, int headDim) => type == KvCacheType.Int8 ? headDim + sizeof(float) : headDim;

    /// <summary>Elements of a key or value in a cache <c>[batch, kvHeads, capacity, columns]</c>.</summary>
    public static nint HeadDim(Tensor cache) => cache.DType == DType.U8 ? cache.Shape[3] - sizeof(float) : cache.Shape[3];
}
