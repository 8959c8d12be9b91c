using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Backends.Cuda.Quantization;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Choices for <see cref="CudaBackend"/>.</summary>
/// <param name="Device">Number of the card, in the driver's order.</param>
/// <param name="Compute">Numbers in which products multiply: F32 (TF32 off), or BF16 on tensor cores with sums in F32.</param>
public sealed record CudaOptions(int Device = 0, DType Compute = DType.F32);

/// <summary>An NVIDIA card as a backend: work is queued on one stream, in order; only copies to the host and <see cref="Synchronize"/> wait.</summary>
public sealed unsafe class CudaBackend : IBackend, IStepRecorder
{
    private readonly ICudaDevice _device;
    private readonly CachingMemory _memory;
    private readonly CudaHalfProducts _half;
    private readonly DType _compute;
    private readonly CudaQuantizer _quantizer;

    /// <summary>Opens a card.</summary>
    /// <exception cref="NibbleException">There is no card, no driver, or a library is missing; the message says which and what to do.</exception>
    public CudaBackend(CudaOptions? options = null)
        : this(CudaDevice.Open(options?.Device ?? 0), options?.Compute ?? DType.F32)
    {
    }

    /// <summary>For tests: any device.</summary>
    internal CudaBackend(ICudaDevice device, DType compute = DType.F32)
    {
        if (compute is not (DType.F32 or DType.BF16))
        {
            Throw.Usage($"products on cuda can't compute in {compute}", "there are F32 and BF16", "choose one of them");
        }

        (_device, _compute) = (device, compute);
        _memory = new CachingMemory(device, new CachingAllocator(device, CachingAllocator.LimitFromEnvironment()));
        _quantizer = new CudaQuantizer(_memory, compute);
        CudaProducts products = new(_memory, compute);
        _half = new CudaHalfProducts(_memory, products);
        Int8 = products.Int8;
        Kernels = new CudaKernels(_memory, products, _half);
        Gradients = new CudaGradients(_memory, products, _half, compute);
    }

    /// <inheritdoc/>
    public string Name => "cuda";

    /// <inheritdoc/>
    public string KernelVariant => _compute == DType.F32 ? _device.Facts.Architecture : $"{_device.Facts.Architecture}-{_compute.ToString().ToLowerInvariant()}";

    /// <inheritdoc/>
    public int Threads => 1;

    /// <inheritdoc/>
    public bool Computes(DType dtype) => dtype == DType.F32 || dtype == _compute;

    /// <inheritdoc/>
    public DType Compute => _compute;

    /// <inheritdoc/>
    public IKernels Kernels { get; }

    /// <inheritdoc/>
    public IGradientKernels Gradients { get; }

    IMatrixQuantizer? IBackend.Quantizer => _quantizer;

    /// <summary>Where the card is, for its energy counter; null for what is no real card.</summary>
    internal string? PciBusId => (_device as CudaDevice)?.PciBusId;

    /// <summary>Most bytes of the card in use at once so far.</summary>
    public long PeakBytes => _memory.Allocator.PeakBytes;

    /// <summary>Products with activations of 8 bits.</summary>
    internal CudaInt8Products Int8 { get; }

    /// <summary>The card's memory and queue.</summary>
    internal CachingMemory Memory => _memory;

    /// <inheritdoc/>
    public Tensor Allocate(Shape shape, DType dtype)
    {
        Tensor tensor = AllocateUndefined(shape, dtype);
        if (tensor.ByteLength > 0)
        {
            _device.Clear(CudaStorage.AddressOf(tensor), tensor.ByteLength);
        }

        return tensor;
    }

    /// <summary>The same with whatever the memory holds.</summary>
    internal Tensor AllocateUndefined(Shape shape, DType dtype) =>
        new(shape, dtype, new CudaStorage(_memory.Allocator, checked(shape.Count * dtype.Size()), "tensors"));

    /// <inheritdoc/>
    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination)
    {
        Check(destination, source.Length);
        fixed (byte* pointer = source)
        {
            if (source.Length > 0)
            {
                _device.Upload(pointer, CudaStorage.AddressOf(destination), source.Length);
            }
        }
    }

    /// <inheritdoc/>
    public void CopyToHost(Tensor source, Span<byte> destination)
    {
        Check(source, destination.Length);
        fixed (byte* pointer = destination)
        {
            if (destination.Length > 0)
            {
                _device.Download(CudaStorage.AddressOf(source), pointer, destination.Length);
            }
        }
    }

    /// <inheritdoc/>
    public void Synchronize() => _device.Synchronize();

    /// <inheritdoc/>
    public IPackedWeight Prepare(Tensor weight) => new DenseCudaPacking(_memory, weight);

    /// <inheritdoc/>
    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations)
    {
        switch (weight)
        {
            case AffineWeight affine:
                return new AffineCudaPacking(_memory, affine, activations);
            case CodebookWeight codebook:
                return new CodebookCudaPacking(_memory, codebook, activations);
            case TernaryWeight ternary:
                return new TernaryCudaPacking(_memory, ternary, activations);
            default:
                Throw.Argument("prepare", $"no packing of the cuda backend holds a {weight.GetType().Name}");
                return null;
        }
    }

    /// <inheritdoc/>
    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold) => new LlmInt8CudaPacking(_memory, weight, threshold);

    /// <summary>Copies in BF16 of matrices that are trained, for passes that compute so; the caller owns them.</summary>
    internal CudaHalfCopies HalfCopies(IEnumerable<IPackedWeight> weights) => new(_memory, _half, weights);

    /// <summary>A place in the host's memory for what the card needs later; the caller owns it.</summary>
    internal CudaOffload Offload() => new(_memory);

    IRecordedStep? IStepRecorder.Record(Action step) => CudaStep.Record(_memory, (CudaKernels)Kernels, step);

    /// <inheritdoc/>
    public void Dispose()
    {
        _memory.Allocator.Dispose();
        _device.Dispose();
    }

    private static void Check(Tensor tensor, int count)
    {
        if (count != tensor.ByteLength)
        {
            Throw.Argument("copy", $"{count} bytes on the host for {tensor.DType} {tensor.Shape}, which has {tensor.ByteLength}");
        }
    }
}
