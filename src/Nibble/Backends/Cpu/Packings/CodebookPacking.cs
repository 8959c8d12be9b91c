using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Codes of a table of up to 16 levels in 4 bits, with absmax values per block, which stay quantized if they are.</summary>
internal sealed class CodebookPacking : PanelPacking
{
    private readonly float[] _levels;
    private readonly int _blockSize;
    private readonly int _blocks;

    // Only where the scales are kept as floats: else they hold it themselves.
    private readonly NestedScales? _nested;

    public CodebookPacking(CodebookWeight weight, ActivationType activations, CpuVariant variant, CpuThreads threads)
        : this(weight, new GroupLayout(GroupOrder.Flat, weight.Out, weight.In, weight.BlockSize), activations, variant, threads)
    {
    }

    private CodebookPacking(CodebookWeight weight, GroupLayout layout, ActivationType activations, CpuVariant variant, CpuThreads threads)
        : base(
            new CodePanels(weight, 4, weight.Levels.Length - 1, variant.PanelWidth, threads),
            layout,
            PanelForm.Level,
            Keep(weight, layout, variant.PanelWidth),
            GroupValues.Same(0, variant.PanelWidth),
            weight.Levels,
            activations == ActivationType.Int8 ? Int8Plan.Codebook(weight.Levels, layout, variant.PanelWidth) : null,
            variant) =>
        (_levels, _blockSize, _blocks, _nested) = (weight.Levels, weight.BlockSize, weight.Absmax.Length, Scales is NestedGroupValues ? null : weight.Nested);

    public CodebookPacking(PackReader reader, CpuVariant variant)
        : base(reader, variant)
    {
        (_levels, _blockSize, _blocks) = (reader.Floats(), reader.Int(), reader.Int());
        _nested = reader.Flag() ? new([.. reader.Bytes()], reader.Floats(), reader.Floats(), reader.Float(), reader.Int()) : null;
    }

    public override string Name => "codebook4";

    public override QuantizedWeight Unpack() =>
        new CodebookWeight(Codes.Unpack(), _levels, _blockSize, Layout.Restore(Scales, Out, _blocks), (Scales as NestedGroupValues)?.Restore(_blocks) ?? _nested);

    public override void Save(PackWriter writer)
    {
        base.Save(writer);
        writer.Floats(_levels);
        writer.Number(_blockSize);
        writer.Number(_blocks);
        writer.Flag(_nested is not null);
        if (_nested is not null)
        {
            writer.Bytes(_nested.Codes);
            writer.Floats(_nested.BlockScales);
            writer.Floats(_nested.Map);
            writer.Float(_nested.Offset);
            writer.Number(_nested.BlockSize);
        }
    }

    private static GroupValues Keep(CodebookWeight weight, GroupLayout layout, int lanes)
    {
        bool staysNested = weight.Nested is { } nested && !layout.IsPerElement
            && nested.Dequantize().AsSpan().SequenceEqual(weight.Absmax);
        return staysNested
            ? NestedGroupValues.Of(weight.Nested!, layout, weight.Out, lanes)
            : layout.Keep(weight.Absmax, weight.Out, lanes);
    }
}
