using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>How codes and the second number of a group give a value.</summary>
public enum AffineForm
{
    /// <summary>w = (q − offset) · scale, as GPTQ, AWQ, HQQ, LLM.int8.</summary>
    ZeroPoint,

    /// <summary>w = q · scale + offset, as Quanto and MLX.</summary>
    Bias,
}

/// <summary>Which elements share a scale.</summary>
public enum GroupOrder
{
    /// <summary>Runs of G columns inside a row; every row starts a new group and its last group may be shorter. Group r·⌈in/G⌉ + c/G.</summary>
    AlongRow,

    /// <summary>Runs of G elements of the flattened matrix (HQQ axis 1 when G does not divide the row): group e / G.</summary>
    Flat,

    /// <summary>HQQ axis 0: the matrix is seen as <c>[G, n/G]</c> and each column of that view is a group: group e mod (n/G).</summary>
    Strided,
}

/// <summary>
/// Codes of 1 to 8 bits (unsigned, 0 … 2^bits − 1) with a scale and an offset (zero point or bias) per group. Signed schemes are
/// stored with their codes shifted: symmetric int8 has q + 128 and an offset of 128.
/// </summary>
public sealed class AffineWeight : QuantizedWeight
{
    /// <summary>Creates a weight. <paramref name="groupSize"/> equal to the row length means one group per row.</summary>
    /// <param name="codes">U8 <c>[out, in]</c>, each below 2^bits.</param>
    /// <param name="bits">1 to 8.</param>
    /// <param name="groupSize">Elements that share a scale, ≥ 1.</param>
    /// <param name="scales">One per group, already rounded to <paramref name="scaleDType"/>.</param>
    /// <param name="offsets">One per group: zero points or biases, as <paramref name="form"/> says.</param>
    /// <param name="scaleDType">The dtype in which a layout stores the scales (F32, F16 or BF16).</param>
    /// <param name="form">Meaning of the offsets.</param>
    /// <param name="order">Which elements share a group.</param>
    /// <param name="columnGroups">Act-order (GPTQ's g_idx): the group of each column; only with <see cref="GroupOrder.AlongRow"/>.</param>
    /// <param name="symmetric">All offsets are the middle code and need not be stored.</param>
    public AffineWeight(
        Tensor codes,
        int bits,
        int groupSize,
        float[] scales,
        float[] offsets,
        DType scaleDType = DType.F32,
        AffineForm form = AffineForm.ZeroPoint,
        GroupOrder order = GroupOrder.AlongRow,
        int[]? columnGroups = null,
        bool symmetric = false)
        : base(codes)
    {
        Bits = bits;
        GroupSize = groupSize;
        Scales = scales;
        Offsets = offsets;
        ScaleDType = scaleDType;
        Form = form;
        Order = order;
        ColumnGroups = columnGroups;
        Symmetric = symmetric;
        if (bits is < 1 or > 8 || groupSize < 1 || scales.Length != Groups || offsets.Length != Groups)
        {
            throw new ArgumentException(
                $"affine weight: {bits} bits (1 to 8), group size {groupSize}, {scales.Length} scales and {offsets.Length} offsets for {Groups} groups");
        }
    }

    /// <inheritdoc/>
    public override WeightFacts Facts => new(WeightKind.Affine, Out, In, Bits, ScaleDType)
    {
        GroupSize = GroupSize,
        Form = Form,
        Order = Order,
        Symmetric = Symmetric,
        WholeOffsets = HasIntegerOffsets,
        ActOrder = ColumnGroups is not null,
        OutlierThreshold = OutlierThreshold,
        StaticActivations = Activations is not null,
    };

    /// <inheritdoc/>
    public override int Bits { get; }

    /// <summary>Elements that share a scale.</summary>
    public int GroupSize { get; }

    /// <summary>Scales on which the layer's inputs and outputs are rounded; null: they are not.</summary>
    public StaticActivations? Activations { get; internal set; }

    /// <summary>Scale of each group.</summary>
    public float[] Scales { get; }

    /// <summary>Zero point or bias of each group.</summary>
    public float[] Offsets { get; }

    /// <summary>The dtype in which the scales are stored; their values are already rounded to it.</summary>
    public DType ScaleDType { get; }

    /// <summary>Meaning of <see cref="Offsets"/>.</summary>
    public AffineForm Form { get; }

    /// <summary>Which elements share a group.</summary>
    public GroupOrder Order { get; }

    /// <summary>The group of each column with act-order; null without.</summary>
    public int[]? ColumnGroups { get; }

    /// <summary>True if every offset is the middle code.</summary>
    public bool Symmetric { get; }

    /// <summary>
    /// LLM.int8: activation columns that reach this magnitude multiply in high precision, and the others in int8 (infinity: none
    /// does); null for an ordinary product.
    /// </summary>
    public float? OutlierThreshold { get; init; }

    /// <summary>Groups of one row, for <see cref="GroupOrder.AlongRow"/>.</summary>
    public nint GroupsPerRow => (In + GroupSize - 1) / GroupSize;

    /// <summary>Number of groups of the whole matrix.</summary>
    public nint Groups => Order switch
    {
        GroupOrder.AlongRow => Out * GroupsPerRow,
        GroupOrder.Flat => (Codes.Shape.Count + GroupSize - 1) / GroupSize,
        _ => Codes.Shape.Count / GroupSize,
    };

    private bool HasIntegerOffsets =>
        Form == AffineForm.ZeroPoint && Array.TrueForAll(Offsets, z => z == MathF.Floor(z) && z >= 0 && z < 1 << Bits);

    /// <summary>The group of element (<paramref name="row"/>, <paramref name="column"/>).</summary>
    public nint GroupOf(nint row, nint column) => Order switch
    {
        GroupOrder.AlongRow => (row * GroupsPerRow) + (ColumnGroups is null ? column / GroupSize : ColumnGroups[column]),
        GroupOrder.Flat => ((row * In) + column) / GroupSize,
        _ => ((row * In) + column) % Groups,
    };

    /// <inheritdoc/>
    public override void DequantizeRow(nint row, Span<float> destination)
    {
        ReadOnlySpan<byte> codes = CodeRow(row);
        if (Order == GroupOrder.AlongRow && ColumnGroups is null)
        {
            nint group = row * GroupsPerRow;
            for (int start = 0; start < codes.Length; start += GroupSize, group++)
            {
                int length = Math.Min(GroupSize, codes.Length - start);
                Dequantize(codes.Slice(start, length), Scales[group], Offsets[group], destination.Slice(start, length));
            }
        }
        else
        {
            for (int i = 0; i < codes.Length; i++)
            {
                nint group = GroupOf(row, i);
                Dequantize(codes.Slice(i, 1), Scales[group], Offsets[group], destination.Slice(i, 1));
            }
        }

        GC.KeepAlive(this);
    }

    private void Dequantize(ReadOnlySpan<byte> codes, float scale, float offset, Span<float> destination)
    {
        if (Form == AffineForm.ZeroPoint)
        {
            for (int i = 0; i < codes.Length; i++)
            {
                destination[i] = (codes[i] - offset) * scale;
            }

            return;
        }

        for (int i = 0; i < codes.Length; i++)
        {
            destination[i] = (codes[i] * scale) + offset;
        }
    }
}
