using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>{−1, 0, +1} in 2 bits: affine codes with an offset of 1 and one group a row.</summary>
internal sealed class TernaryPacking : PanelPacking
{
    private readonly int _scaleCount;
    private readonly Tensors.DType _scaleDType;

    public TernaryPacking(TernaryWeight weight, ActivationType activations, CpuVariant variant, CpuThreads threads)
        : base(
            new CodePanels(weight, 2, 2, variant.PanelWidth, threads),
            new GroupLayout(GroupOrder.AlongRow, weight.Out, weight.In, (int)nint.Max(1, weight.In)),
            PanelForm.ZeroPoint,
            GroupValues.Create(weight.Out, 1, variant.PanelWidth, (row, _) => weight.ScaleOf(row)),
            GroupValues.Same(1, variant.PanelWidth),
            [],
            activations == ActivationType.Int8 && weight.In <= Int8Plan.MostColumns ? new Int8Plan(ByteFormat.Bits2, ByteOffsets.Whole) : null,
            variant) =>
        (_scaleCount, _scaleDType) = (weight.Scales.Length, weight.ScaleDType);

    public TernaryPacking(PackReader reader, CpuVariant variant)
        : base(reader, variant) =>
        (_scaleCount, _scaleDType) = (reader.Int(), (Tensors.DType)reader.Int());

    public override string Name => "ternary2";

    public override void Save(PackWriter writer)
    {
        base.Save(writer);
        writer.Number(_scaleCount);
        writer.Number((int)_scaleDType);
    }

    public override QuantizedWeight Unpack()
    {
        float[] scales = new float[_scaleCount];
        for (int row = 0; row < scales.Length; row++)
        {
            scales[row] = Scales.At(row, 0);
        }

        return new TernaryWeight(Codes.Unpack(), scales, _scaleDType);
    }
}
