using Nibble.Quantization;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>Codes of a table of up to 16 levels in 4 bits, with absmax values per block, which stay quantized if they are.</summary>
internal sealed class CodebookCudaPacking : QuantizedCudaPacking
{
    private readonly float[] _levels;
    private readonly int _blockSize;
    private readonly NestedScales? _nested;
    private readonly CudaStorage? _absmax;

    public CodebookCudaPacking(CachingMemory memory, CodebookWeight weight, ActivationType activations)
        : base(memory, weight, 4, weight.Levels.Length - 1, activations)
    {
        (_levels, _blockSize, _nested) = (weight.Levels, weight.BlockSize, weight.Nested);
        Group(GroupOrder.Flat, weight.BlockSize, weight.Absmax.Length, null);
        float[] levels = new float[16];
        weight.Levels.CopyTo(levels, 0);
        Argument.Levels = Keep<float>(levels).Address;
        if (_nested is not null && _nested.Dequantize().AsSpan().SequenceEqual(weight.Absmax))
        {
            KeepNested(_nested);
            return;
        }

        _absmax = Keep<float>(weight.Absmax);
        Argument.Scales = _absmax.Address;
    }

    public override string Format => "codebook4";

    public override ReadOnlySpan<float> Levels => _levels;

    public override QuantizedWeight Unpack() =>
        new CodebookWeight(UnpackCodes(), _levels, _blockSize, _absmax is null ? _nested!.Dequantize() : Read<float>(_absmax), _nested);

    private void KeepNested(NestedScales nested)
    {
        float[] map = new float[256];
        nested.Map.CopyTo(map, 0);
        Argument.Scales = Keep<byte>(nested.Codes).Address;
        Argument.NestedMap = Keep<float>(map).Address;
        Argument.NestedScales = Keep<float>(nested.BlockScales).Address;
        (Argument.NestedOffset, Argument.NestedSize) = (nested.Offset, nested.BlockSize);
        Argument.NestedShift = int.IsPow2(nested.BlockSize) ? 1 + int.Log2(nested.BlockSize) : 0;
    }
}
