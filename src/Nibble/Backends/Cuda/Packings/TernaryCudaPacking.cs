using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>{−1, 0, +1} in 2 bits: affine codes with an offset of 1 and one scale a row.</summary>
internal sealed class TernaryCudaPacking : QuantizedCudaPacking
{
    private readonly int _scaleCount;
    private readonly DType _scaleDType;
    private readonly CudaStorage _scales;

    public TernaryCudaPacking(CachingMemory memory, TernaryWeight weight, ActivationType activations)
        : base(memory, weight, 2, 2, activations)
    {
        (_scaleCount, _scaleDType) = (weight.Scales.Length, weight.ScaleDType);
        Group(GroupOrder.AlongRow, (int)nint.Max(1, weight.In), weight.Out, null);
        _scales = Keep<float>(weight.Scales.Length == 1 ? [.. Enumerable.Repeat(weight.Scales[0], (int)weight.Out)] : weight.Scales);
        Argument.Scales = _scales.Address;
        Argument.Offset = 1;
    }

    public override string Name => "ternary2";

    public override string Format => "affine2";

    public override QuantizedWeight Unpack() => new TernaryWeight(UnpackCodes(), Read<float>(_scales)[.._scaleCount], _scaleDType);
}
