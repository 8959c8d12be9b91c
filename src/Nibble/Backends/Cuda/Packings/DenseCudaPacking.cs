using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>A dense matrix in its own dtype, row by row.</summary>
internal sealed unsafe class DenseCudaPacking : CudaPacking
{
    private readonly DType _dtype;
    private readonly CudaStorage _values;

    public DenseCudaPacking(CachingMemory memory, Tensor weight)
        : base(memory, weight.Shape[0], weight.Shape[1])
    {
        _dtype = weight.DType;
        _values = Keep(weight.HostPointer, weight.ByteLength);
        Argument.Codes = _values.Address;
    }

    /// <summary>Takes over values that stand on the card already.</summary>
    public DenseCudaPacking(CachingMemory memory, nint outFeatures, nint inFeatures, DType dtype, CudaStorage values)
        : base(memory, outFeatures, inFeatures)
    {
        (_dtype, _values) = (dtype, values);
        Keep(values);
        Argument.Codes = values.Address;
    }

    /// <summary>The dtype of the values.</summary>
    public DType DType => _dtype;

    public override string Name => Format;

    public override string Format => _dtype.ToString().ToLowerInvariant();

    // A lane reads 16 bytes of a row at once.
    public override string? TensorFormat => _dtype == DType.BF16 && In % 8 == 0 ? "bf16" : null;

    /// <summary>The values as a tensor that shares the memory, if they are F32.</summary>
    public Tensor? Values => _dtype == DType.F32 ? new Tensor(new Shape(Out * In), DType.F32, _values, ownsStorage: false) : null;

    public override QuantizedWeight? Unpack() => null;

    public override nint Matrix(DType dtype) => dtype == _dtype ? _values.Address : 0;
}
