using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>A dense matrix in its own dtype, row by row.</summary>
internal sealed unsafe class DenseCudaPacking : CudaPacking
{
    private readonly DType _dtype;
    private readonly CudaStorage _values;
    private nint _pinned;

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

    /// <summary>The values as a tensor that shares the memory, if they are F32 on the card.</summary>
    public Tensor? Values => _dtype == DType.F32 && _pinned == 0 ? new Tensor(new Shape(Out * In), DType.F32, _values, ownsStorage: false) : null;

    public override QuantizedWeight? Unpack() => null;

    public override nint Matrix(DType dtype) => dtype == _dtype ? Argument.Codes : 0;

    /// <summary>From now on the values wait in pinned memory of the host, from which kernels read what they need: for tables of which a pass reads few rows.</summary>
    public void MoveToHost()
    {
        if (_pinned != 0 || _values.ByteLength == 0)
        {
            return;
        }

        _pinned = Memory.Device.AllocatePinned(_values.ByteLength);
        Memory.Device.CopyOut(_values.Address, _pinned, _values.ByteLength);
        Memory.Device.Synchronize();
        Argument.Codes = _pinned;
        Release(_values);
    }

    public override void Dispose()
    {
        if (_pinned != 0)
        {
            Memory.Device.Synchronize();
            Memory.Device.FreePinned(_pinned);
            _pinned = 0;
        }

        base.Dispose();
    }
}
