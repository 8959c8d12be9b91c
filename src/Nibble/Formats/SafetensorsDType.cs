using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>The element types that the safetensors format knows: more than Nibble computes with.</summary>
internal static class SafetensorsDType
{
    /// <summary>Names and bits in the reference's alignment order, which is also the (descending) order of its writer.</summary>
    private static readonly (string Name, int Bits, DType? Type)[] All =
    [
        ("BOOL", 8, null), ("F4", 4, null), ("F6_E2M3", 6, null), ("F6_E3M2", 6, null), ("U8", 8, DType.U8), ("I8", 8, DType.I8),
        ("F8_E5M2", 8, null), ("F8_E4M3", 8, null), ("F8_E8M0", 8, null), ("F8_E4M3FNUZ", 8, null), ("F8_E5M2FNUZ", 8, null),
        ("I16", 16, null), ("U16", 16, null), ("F16", 16, DType.F16), ("BF16", 16, DType.BF16), ("I32", 32, DType.I32),
        ("U32", 32, null), ("F32", 32, DType.F32), ("C64", 64, null), ("F64", 64, null), ("I64", 64, DType.I64), ("U64", 64, null),
    ];

    /// <summary>All names, for error messages.</summary>
    public static string Names => string.Join(", ", All.Select(entry => entry.Name));

    /// <summary>The names that Nibble can load as tensors.</summary>
    public static string Held => string.Join(", ", All.Where(entry => entry.Type != null).Select(entry => entry.Name));

    /// <summary>Place in the alignment order, or −1 for a name that the format does not know.</summary>
    public static int Rank(string name) => Array.FindIndex(All, entry => entry.Name == name);

    /// <summary>Bits of one element.</summary>
    public static int Bits(int rank) => All[rank].Bits;

    /// <summary>Nibble's type, or null where it has none.</summary>
    public static DType? Type(int rank) => All[rank].Type;

    /// <summary>The format's name of a type.</summary>
    public static string Name(DType dtype) => All.First(entry => entry.Type == dtype).Name;
}
