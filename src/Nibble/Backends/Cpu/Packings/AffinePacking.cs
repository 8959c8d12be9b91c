using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Affine codes: kept in 2, 3, 4 or 8 bits, whichever holds them.</summary>
internal class AffinePacking : PanelPacking
{
    private readonly int _bits;
    private readonly int _groupSize;
    private readonly nint _groups;
    private readonly Tensors.DType _scaleDType;
    private readonly AffineForm _affineForm;
    private readonly GroupOrder _order;
    private readonly bool _symmetric;

    public AffinePacking(AffineWeight weight, ActivationType activations, CpuVariant variant, CpuThreads threads)
        : this(weight, new GroupLayout(weight.Order, weight.Out, weight.In, weight.GroupSize, weight.ColumnGroups), activations, variant, threads)
    {
    }

    private AffinePacking(AffineWeight weight, GroupLayout layout, ActivationType activations, CpuVariant variant, CpuThreads threads)
        : base(
            new CodePanels(weight, Container(weight.Bits), (1 << weight.Bits) - 1, variant.PanelWidth, threads),
            layout,
            weight.Form == AffineForm.ZeroPoint ? PanelForm.ZeroPoint : PanelForm.Bias,
            layout.Keep(weight.Scales, weight.Out, variant.PanelWidth),
            Offsets(weight, layout, variant.PanelWidth),
            [],
            activations == ActivationType.Int8 ? Int8Plan.Affine(weight, Container(weight.Bits), layout) : null,
            variant)
    {
        (_bits, _groupSize, _groups, _scaleDType) = (weight.Bits, weight.GroupSize, weight.Groups, weight.ScaleDType);
        (_affineForm, _order, _symmetric) = (weight.Form, weight.Order, weight.Symmetric);
    }

    public AffinePacking(PackReader reader, CpuVariant variant)
        : base(reader, variant)
    {
        (_bits, _groupSize, _groups, _scaleDType) = (reader.Int(), reader.Int(), reader.Size(), (Tensors.DType)reader.Int());
        (_affineForm, _order, _symmetric) = ((AffineForm)reader.Int(), (GroupOrder)reader.Int(), reader.Flag());
    }

    public override string Name => "affine" + Codes.Bits;

    public override QuantizedWeight Unpack() => new AffineWeight(
        Codes.Unpack(),
        _bits,
        _groupSize,
        Layout.Restore(Scales, Out, _groups),
        Layout.Restore(base.Offsets, Out, _groups),
        _scaleDType,
        _affineForm,
        _order,
        Layout.Map,
        _symmetric);

    public override void Save(PackWriter writer)
    {
        base.Save(writer);
        writer.Number(_bits);
        writer.Number(_groupSize);
        writer.Number(_groups);
        writer.Number((int)_scaleDType);
        writer.Number((int)_affineForm);
        writer.Number((int)_order);
        writer.Flag(_symmetric);
    }

    private static int Container(int bits) => bits switch { 1 or 2 => 2, 3 or 4 => bits, _ => 8 };

    private static new GroupValues Offsets(AffineWeight weight, GroupLayout layout, int lanes)
    {
        float[] offsets = weight.Offsets;
        bool same = offsets.Length > 0 && Array.TrueForAll(
            offsets, z => BitConverter.SingleToInt32Bits(z) == BitConverter.SingleToInt32Bits(offsets[0]));
        return same ? GroupValues.Same(offsets[0], lanes) : layout.Keep(offsets, weight.Out, lanes);
    }
}
