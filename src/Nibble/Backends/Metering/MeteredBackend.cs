using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Metering;

/// <summary>
/// A device without memory: it counts what is allocated and computes nothing. A pass on it needs what the same pass needs on the
/// processor, so an estimate of memory is that of the code that runs, for every architecture and method.
/// </summary>
/// <param name="panelWidth">The processor keeps a dense matrix in panels of that many rows, the last one padded.</param>
internal sealed class MeteredBackend(int panelWidth) : IBackend
{
    /// <inheritdoc/>
    public string Name => "metered";

    /// <inheritdoc/>
    public string KernelVariant => "none";

    /// <inheritdoc/>
    public int Threads => 1;

    /// <inheritdoc/>
    public IKernels Kernels { get; } = new NoKernels();

    /// <inheritdoc/>
    public IGradientKernels Gradients { get; } = new NoGradients();

    /// <summary>Bytes that are taken now.</summary>
    public long Bytes { get; private set; }

    /// <summary>Most bytes that were taken at once.</summary>
    public long PeakBytes { get; private set; }

    /// <inheritdoc/>
    public Tensor Allocate(Shape shape, DType dtype) => new(shape, dtype, new MeteredStorage(this, checked(shape.Count * dtype.Size())));

    /// <summary>A quantized weight of which only the size is known.</summary>
    public MeteredWeight Weight(nint rows, nint columns, nint bytes) => new(rows, columns, Allocate(new Shape(bytes), DType.U8));

    /// <summary>A dense weight, padding included: a LoRA matrix of 4 rows takes a whole panel.</summary>
    public MeteredWeight Weight(nint rows, nint columns, DType dtype) =>
        new(rows, columns, Allocate(new Shape((rows + panelWidth - 1) / panelWidth * panelWidth * columns), dtype));

    /// <inheritdoc/>
    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination)
    {
        // There is nowhere to copy to.
    }

    /// <inheritdoc/>
    public void CopyToHost(Tensor source, Span<byte> destination) => destination.Clear();

    /// <inheritdoc/>
    public void Synchronize()
    {
        // Nothing is queued.
    }

    /// <inheritdoc/>
    public IPackedWeight Prepare(Tensor weight) => Weight(weight.Shape[0], weight.Shape[1], weight.DType);

    /// <inheritdoc/>
    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations) => throw new NotSupportedException("a metered weight is made from its size");

    /// <inheritdoc/>
    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold) => throw new NotSupportedException("a metered weight is made from its size");

    /// <inheritdoc/>
    public void Dispose()
    {
        // It has nothing.
    }

    private void Count(long bytes)
    {
        Bytes += bytes;
        PeakBytes = Math.Max(PeakBytes, Bytes);
    }

    private sealed class MeteredStorage : Storage
    {
        private MeteredBackend? _backend;

        public MeteredStorage(MeteredBackend backend, nint bytes)
            : base(bytes)
        {
            _backend = backend;
            backend.Count(bytes);
        }

        public override void Dispose()
        {
            _backend?.Count(-ByteLength);
            _backend = null;
        }
    }
}

/// <summary>A weight without numbers.</summary>
internal sealed class MeteredWeight(nint rows, nint columns, Tensor place) : IPackedWeight
{
    private Tensor? _values;

    /// <inheritdoc/>
    public nint Out => rows;

    /// <inheritdoc/>
    public nint In => columns;

    /// <inheritdoc/>
    public nint ByteLength => place.ByteLength;

    /// <inheritdoc/>
    public string Name => "metered";

    /// <inheritdoc/>
    public ActivationType Activations => ActivationType.F32;

    /// <inheritdoc/>
    public double? OutlierShare => null;

    /// <summary>Its numbers where they stand, padding included; null unless it is F32.</summary>
    public Tensor? Values => place.DType == DType.F32 ? _values ??= new Tensor(place.Shape, DType.F32, place.Storage, 0, ownsStorage: false) : null;

    /// <inheritdoc/>
    public QuantizedWeight? Unpack() => null;

    /// <inheritdoc/>
    public void Dispose() => place.Dispose();
}
