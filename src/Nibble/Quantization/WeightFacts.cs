using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>The three kinds of numbers in a quantized weight.</summary>
public enum WeightKind
{
    /// <summary><see cref="CodebookWeight"/>.</summary>
    Codebook,

    /// <summary><see cref="AffineWeight"/>.</summary>
    Affine,

    /// <summary><see cref="TernaryWeight"/>.</summary>
    Ternary,
}

/// <summary>
/// Everything about a quantized weight but its numbers: known from a method's settings before any work, from a weight after it,
/// and from a file's header. Layouts decide from it what they can hold and which tensors they write.
/// </summary>
public sealed record WeightFacts(WeightKind Kind, nint Out, nint In, int Bits, DType ScaleDType)
{
    private const long FloatBits = 32, GroupNumberBits = 32;

    /// <summary>Affine: columns that share a scale. Codebook: elements of a block.</summary>
    public int GroupSize { get; init; }

    /// <summary>Affine: meaning of the offsets.</summary>
    public AffineForm Form { get; init; }

    /// <summary>Affine: which elements share a scale.</summary>
    public GroupOrder Order { get; init; }

    /// <summary>Affine: all offsets are the middle code.</summary>
    public bool Symmetric { get; init; }

    /// <summary>Affine: offsets are whole numbers from 0 to the largest code.</summary>
    public bool WholeOffsets { get; init; }

    /// <summary>Affine: columns have groups of their own (act-order).</summary>
    public bool ActOrder { get; init; }

    /// <summary>Affine: the product is LLM.int8's, with this threshold; null for an ordinary product.</summary>
    public float? OutlierThreshold { get; init; }

    /// <summary>Codebook: the scales are quantized again.</summary>
    public bool Nested { get; init; }

    /// <summary>Codebook: <c>nf4</c> or <c>fp4</c>; null for another table.</summary>
    public string? Codebook { get; init; }

    /// <summary>Ternary: one scale a row instead of one for the matrix.</summary>
    public bool PerRow { get; init; }

    /// <summary>The file's 32-bit words hold whole codes only (compressed-tensors before 0.17): read, never written.</summary>
    public bool WholeCodeWords { get; init; }

    /// <summary>The layer's inputs and outputs are rounded on fixed scales, which stand beside the weight.</summary>
    public bool StaticActivations { get; init; }

    /// <summary>Elements of the matrix.</summary>
    public nint Count => Out * In;

    /// <summary>
    /// Bits of everything that gives the values back: codes, scales, zero points, shifts, tables, act-order's groups of columns. Divided by
    /// <see cref="Count"/> it is bits per weight, the same before the work, in the record of a quantization and of a loaded model. Files
    /// hold a little more (names, shapes, padding of words), which sizes in bytes count.
    /// </summary>
    public long StoredBits => Kind switch
    {
        WeightKind.Ternary => ((long)Bits * Count) + (ScaleBits * (PerRow ? Out : 1)),
        WeightKind.Codebook => ((long)Bits * Count) + (FloatBits << Bits) + (Nested ? NestedBits : FloatBits * Groups),
        _ => ((long)Bits * Count) + (Groups * (ScaleBits + (Symmetric ? 0 : WholeOffsets ? Bits : ScaleBits))) + (ActOrder ? GroupNumberBits * In : 0),
    };

    /// <summary>Groups or blocks of the whole matrix.</summary>
    public long Groups => Kind == WeightKind.Codebook || Order == GroupOrder.Flat ? (Count + GroupSize - 1) / Math.Max(1, GroupSize)
        : Order == GroupOrder.AlongRow ? Out * GroupsPerRow
        : Count / Math.Max(1, GroupSize);

    /// <summary>Affine: groups of one row, for <see cref="GroupOrder.AlongRow"/>.</summary>
    public nint GroupsPerRow => (In + GroupSize - 1) / Math.Max(1, GroupSize);

    /// <summary>True if one group is a whole row.</summary>
    public bool WholeRows => Order == GroupOrder.AlongRow && GroupSize >= In;

    /// <summary>For messages: <c>affine 4 bit, group 64, asymmetric, f16 scales</c>.</summary>
    public override string ToString() => Kind switch
    {
        WeightKind.Codebook => $"{Codebook ?? "codebook"}, block {GroupSize}{(Nested ? ", double quantization" : string.Empty)}",
        WeightKind.Ternary => $"ternary, {(PerRow ? "a scale a row" : "one scale")}, {ScaleName} scale",
        _ => $"affine {Bits} bit, {(WholeRows ? "a scale a row" : $"group {GroupSize}")}, {(Symmetric ? "symmetric" : WholeOffsets ? "whole zero points" : Form == AffineForm.Bias ? "real shifts" : "real zero points")}"
            + $"{(ActOrder ? ", act-order" : string.Empty)}{(OutlierThreshold is null ? string.Empty : $", outliers from {OutlierThreshold} on")}{(StaticActivations ? ", 8-bit activations" : string.Empty)}, {ScaleName} scales",
    };

    private long ScaleBits => 8L * ScaleDType.Size();

    // A byte a block, a scale for 256 of them, the 256 levels and the mean.
    private long NestedBits => (8 * Groups) + (FloatBits * ((Groups + NestedScales.UsualBlock - 1) / NestedScales.UsualBlock)) + (FloatBits * NestedScales.UsualBlock) + FloatBits;

    private string ScaleName => ScaleDType.ToString().ToLowerInvariant();
}
