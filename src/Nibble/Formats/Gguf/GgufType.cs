using System.Diagnostics.CodeAnalysis;

namespace Nibble.Formats;

/// <summary>Element types of GGUF tensors; the values are those of the file.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "the names are the format's own")]
public enum GgufType
{
    /// <summary>IEEE single precision.</summary>
    F32 = 0,

    /// <summary>IEEE half precision.</summary>
    F16 = 1,

    /// <summary>4 bit, 32 elements, scale.</summary>
    Q4_0 = 2,

    /// <summary>4 bit, 32 elements, scale and minimum.</summary>
    Q4_1 = 3,

    /// <summary>5 bit, 32 elements, scale.</summary>
    Q5_0 = 6,

    /// <summary>5 bit, 32 elements, scale and minimum.</summary>
    Q5_1 = 7,

    /// <summary>8 bit, 32 elements, scale.</summary>
    Q8_0 = 8,

    /// <summary>8 bit, 32 elements, scale and sum; activations only.</summary>
    Q8_1 = 9,

    /// <summary>2 bit, 256 elements, 4-bit scales and minima of 16.</summary>
    Q2_K = 10,

    /// <summary>3 bit, 256 elements, 6-bit scales of 16.</summary>
    Q3_K = 11,

    /// <summary>4 bit, 256 elements, 6-bit scales and minima of 32.</summary>
    Q4_K = 12,

    /// <summary>5 bit, 256 elements, 6-bit scales and minima of 32.</summary>
    Q5_K = 13,

    /// <summary>6 bit, 256 elements, 8-bit scales of 16.</summary>
    Q6_K = 14,

    /// <summary>8 bit, 256 elements; activations only.</summary>
    Q8_K = 15,

    /// <summary>2.06 bit by a lattice.</summary>
    IQ2_XXS = 16,

    /// <summary>2.31 bit by a lattice.</summary>
    IQ2_XS = 17,

    /// <summary>3.06 bit by a lattice.</summary>
    IQ3_XXS = 18,

    /// <summary>1.56 bit by a lattice.</summary>
    IQ1_S = 19,

    /// <summary>4 bit by a table of levels, 32 elements.</summary>
    IQ4_NL = 20,

    /// <summary>3.44 bit by a lattice.</summary>
    IQ3_S = 21,

    /// <summary>2.56 bit by a lattice.</summary>
    IQ2_S = 22,

    /// <summary>4 bit by a table of levels, 256 elements, 6-bit scales of 32.</summary>
    IQ4_XS = 23,

    /// <summary>Signed 8-bit integers.</summary>
    I8 = 24,

    /// <summary>Signed 16-bit integers.</summary>
    I16 = 25,

    /// <summary>Signed 32-bit integers.</summary>
    I32 = 26,

    /// <summary>Signed 64-bit integers.</summary>
    I64 = 27,

    /// <summary>IEEE double precision.</summary>
    F64 = 28,

    /// <summary>1.75 bit by a lattice.</summary>
    IQ1_M = 29,

    /// <summary>bfloat16.</summary>
    BF16 = 30,

    /// <summary>Ternary, five in a byte, 256 elements.</summary>
    TQ1_0 = 34,

    /// <summary>Ternary, four in a byte, 256 elements.</summary>
    TQ2_0 = 35,

    /// <summary>4-bit floating point, 32 elements, a power of two as scale.</summary>
    MXFP4 = 39,

    /// <summary>4-bit floating point, 64 elements, 8-bit floating point scales of 16.</summary>
    NVFP4 = 40,

    /// <summary>1 bit, 128 elements.</summary>
    Q1_0 = 41,

    /// <summary>2 bit, 64 elements.</summary>
    Q2_0 = 42,
}

/// <summary>Facts about <see cref="GgufType"/>.</summary>
public static class GgufTypes
{
    private static readonly Dictionary<GgufType, (int Elements, int Bytes)> Blocks = new()
    {
        [GgufType.F32] = (1, 4), [GgufType.F16] = (1, 2), [GgufType.BF16] = (1, 2), [GgufType.F64] = (1, 8),
        [GgufType.I8] = (1, 1), [GgufType.I16] = (1, 2), [GgufType.I32] = (1, 4), [GgufType.I64] = (1, 8),
        [GgufType.Q4_0] = (32, 18), [GgufType.Q4_1] = (32, 20), [GgufType.Q5_0] = (32, 22), [GgufType.Q5_1] = (32, 24),
        [GgufType.Q8_0] = (32, 34), [GgufType.Q8_1] = (32, 36),
        [GgufType.Q2_K] = (256, 84), [GgufType.Q3_K] = (256, 110), [GgufType.Q4_K] = (256, 144), [GgufType.Q5_K] = (256, 176),
        [GgufType.Q6_K] = (256, 210), [GgufType.Q8_K] = (256, 292),
        [GgufType.IQ2_XXS] = (256, 66), [GgufType.IQ2_XS] = (256, 74), [GgufType.IQ3_XXS] = (256, 98), [GgufType.IQ1_S] = (256, 50),
        [GgufType.IQ3_S] = (256, 110), [GgufType.IQ2_S] = (256, 82), [GgufType.IQ1_M] = (256, 56),
        [GgufType.IQ4_NL] = (32, 18), [GgufType.IQ4_XS] = (256, 136),
        [GgufType.TQ1_0] = (256, 54), [GgufType.TQ2_0] = (256, 66),
        [GgufType.MXFP4] = (32, 17), [GgufType.NVFP4] = (64, 36), [GgufType.Q1_0] = (128, 18), [GgufType.Q2_0] = (64, 18),
    };

    /// <summary>True if the number is a type of the format that is in use.</summary>
    public static bool IsKnown(this GgufType type) => Blocks.ContainsKey(type);

    /// <summary>Elements of a block.</summary>
    public static int BlockElements(this GgufType type) => Blocks[type].Elements;

    /// <summary>Bytes of a block.</summary>
    public static int BlockBytes(this GgufType type) => Blocks[type].Bytes;

    /// <summary>Bytes of a row of <paramref name="elements"/>, which must be whole blocks.</summary>
    public static long RowBytes(this GgufType type, long elements) => elements / Blocks[type].Elements * Blocks[type].Bytes;

    /// <summary>True for F32, F16, BF16 and F64: numbers as they are, without blocks.</summary>
    public static bool IsFloat(this GgufType type) => type is GgufType.F32 or GgufType.F16 or GgufType.BF16 or GgufType.F64;
}
