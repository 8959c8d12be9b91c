using Nibble.Backends;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// A backend whose kernels also write on a tape: a model that runs on it can be trained, and knows nothing about that. All memory
/// is the inner backend's.
/// </summary>
internal sealed class RecordingBackend(IBackend inner, Tape tape, ParameterSet parameters) : IBackend
{
    public string Name => inner.Name;

    public string KernelVariant => inner.KernelVariant;

    public int Threads => inner.Threads;

    public bool Computes(DType dtype) => inner.Computes(dtype);

    public DType Compute => inner.Compute;

    public IKernels Kernels { get; } = new RecordingKernels(inner, tape, parameters);

    public IGradientKernels Gradients => inner.Gradients;

    public Tensor Allocate(Shape shape, DType dtype) => inner.Allocate(shape, dtype);

    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination) => inner.CopyFromHost(source, destination);

    public void CopyToHost(Tensor source, Span<byte> destination) => inner.CopyToHost(source, destination);

    public void Synchronize() => inner.Synchronize();

    public IPackedWeight Prepare(Tensor weight) => inner.Prepare(weight);

    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations) => inner.Prepare(weight, activations);

    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold) => inner.PrepareInt8(weight, threshold);

    /// <summary>Nothing: the inner backend belongs to its owner.</summary>
    public void Dispose()
    {
    }
}
