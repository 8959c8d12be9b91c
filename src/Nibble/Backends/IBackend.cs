using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>In which numbers a product reads its activations.</summary>
public enum ActivationType
{
    /// <summary>F32: the kernel dequantizes the weight inside. What every comparison uses.</summary>
    F32,

    /// <summary>Each row of activations is quantized to int8 (absmax) first. LLM.int8 and BitNet require it.</summary>
    Int8,
}

/// <summary>
/// A device: its memory and its kernels. Made for asynchronous devices: work is queued in order, only
/// <see cref="CopyToHost"/> and <see cref="Synchronize"/> wait, and no kernel reads host memory behind the caller's back.
/// </summary>
public interface IBackend : IDisposable
{
    /// <summary>Name in results and on the command line: <c>cpu</c>, <c>cuda</c>.</summary>
    string Name { get; }

    /// <summary>The kernel variant in use: <c>scalar</c>, <c>avx2</c>, <c>avx512</c> …</summary>
    string KernelVariant { get; }

    /// <summary>Threads that kernels use (1 for a device).</summary>
    int Threads { get; }

    /// <summary>True for the numbers that activations of kernels may hold: F32 everywhere.</summary>
    bool Computes(DType dtype) => dtype == DType.F32;

    /// <summary>Numbers in which products multiply.</summary>
    DType Compute => DType.F32;

    /// <summary>The kernels.</summary>
    IKernels Kernels { get; }

    /// <summary>What runs quantization methods on this device; null where the processor does.</summary>
    internal IMatrixQuantizer? Quantizer => null;

    /// <summary>The backward kernels and the optimizer's.</summary>
    IGradientKernels Gradients { get; }

    /// <summary>Takes memory for a tensor, zeroed; the caller owns it.</summary>
    Tensor Allocate(Shape shape, DType dtype);

    /// <summary>Copies bytes of the host into a tensor of this backend.</summary>
    void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination);

    /// <summary>Waits for the queue, then copies a tensor of this backend to the host.</summary>
    void CopyToHost(Tensor source, Span<byte> destination);

    /// <summary>Waits until all queued work is done.</summary>
    void Synchronize();

    /// <summary>
    /// Makes the packing of a dense matrix <c>[out, in]</c> (F32, F16 or BF16, on the host). The values are kept in the given
    /// dtype; the source may be freed afterwards.
    /// </summary>
    IPackedWeight Prepare(Tensor weight);

    /// <summary>Makes the packing of a quantized weight for products with <paramref name="activations"/>; the source may be freed afterwards.</summary>
    IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations);

    /// <summary>
    /// Makes the packing of LLM.int8 (arXiv 2208.07339, section 3): <paramref name="weight"/> is 8 bit, symmetric, one scale a row;
    /// activation columns with any value of magnitude ≥ <paramref name="threshold"/> multiply the dequantized weight columns.
    /// </summary>
    IPackedWeight PrepareInt8(AffineWeight weight, float threshold);
}

/// <summary>A weight in the form that a backend's kernels read; private to the backend and exactly invertible.</summary>
public interface IPackedWeight : IDisposable
{
    /// <summary>Output features.</summary>
    nint Out { get; }

    /// <summary>Input features.</summary>
    nint In { get; }

    /// <summary>Bytes that the packing takes in the backend's memory.</summary>
    nint ByteLength { get; }

    /// <summary>Name of the packing, for reports: <c>bf16</c>, <c>affine4</c>, <c>codebook4</c> …</summary>
    string Name { get; }

    /// <summary>In which numbers the product reads its activations.</summary>
    ActivationType Activations { get; }

    /// <summary>The quantized weight again, code for code; null if the packing holds a dense matrix.</summary>
    QuantizedWeight? Unpack();

    /// <summary>Share of activation columns that went the high-precision way since the start (LLM.int8); null for other packings.</summary>
    double? OutlierShare { get; }
}
