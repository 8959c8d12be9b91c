using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Codes of a table of up to 16 levels in 4 bits, with absmax values per block, which stay quantized if they are.</summary>
internal sealed class CodebookPacking : PanelPacking
{
    private readonly float[] _levels;
    private readonly int _blockSize;
    private readonly int _blocks;
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
        (_levels, _blockSize, _blocks, _nested) = (weight.Levels, weight.BlockSize, weight.Absmax.Length, weight.Nested);

    public CodebookPacking(PackReader reader, CpuVariant variant)
        : base(reader, variant)
    {
        (_levels, _blockSize, _blocks) = (reader.Floats(), reader.Int(), reader.Int());
        _nested = reader.Flag() ? NestedGroupValues.OpenScales(reader) : null;
    }

    public override string Name => "codebook4";

    public override QuantizedWeight Unpack() =>
        new CodebookWeight(Codes.Unpack(), _levels, _blockSize, Layout.Restore(Scales, Out, _blocks), _nested);

    public override void Save(PackWriter writer)
    {
        base.Save(writer);
        writer.Floats(_levels);
        writer.Number(_blockSize);
        writer.Number(_blocks);
        writer.Flag(_nested is not null);
        if (_nested is not null)
        {
            NestedGroupValues.SaveScales(writer, _nested);
        }
    }

    private static GroupValues Keep(CodebookWeight weight, GroupLayout layout, int lanes)
    {
        bool staysNested = weight.Nested is { } nested && !layout.IsPerElement
            && nested.Dequantize().AsSpan().SequenceEqual(weight.Absmax);
        return staysNested
            ? GroupValues.Create(weight.Nested!, weight.Out, layout.Count, lanes, layout.Index)
            : layout.Keep(weight.Absmax, weight.Out, lanes);
    }
}
