using Nibble.Backends;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>
/// A device's backend for checks that hold their tensors on the host: each call copies them to the device, runs there, and copies them
/// back. Packed weights, and the values that they share, stay on the device. Tensors on the device start one float after an aligned
/// address, as a slice may.
/// </summary>
internal sealed class MirrorCheckBackend : IBackend
{
    private readonly IBackend _device;

    public MirrorCheckBackend(IBackend device)
    {
        _device = device;
        Kernels = new MirrorCheckKernels(device);
        Gradients = new MirrorCheckGradients(device);
    }

    public string Name => _device.Name;

    public string KernelVariant => _device.KernelVariant;

    public int Threads => _device.Threads;

    public IKernels Kernels { get; }

    public IGradientKernels Gradients { get; }

    public Tensor Allocate(Shape shape, DType dtype) => Tensor.OnHost(shape, dtype);

    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination)
    {
        if (destination.IsOnHost)
        {
            source.CopyTo(Bytes(destination));
        }
        else
        {
            _device.CopyFromHost(source, destination);
        }
    }

    public void CopyToHost(Tensor source, Span<byte> destination)
    {
        if (source.IsOnHost)
        {
            Bytes(source).CopyTo(destination);
        }
        else
        {
            _device.CopyToHost(source, destination);
        }
    }

    public void Synchronize() => _device.Synchronize();

    public IPackedWeight Prepare(Tensor weight) => _device.Prepare(weight);

    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations) => _device.Prepare(weight, activations);

    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold) => _device.PrepareInt8(weight, threshold);

    public void Dispose() => _device.Dispose();

    internal static unsafe Span<byte> Bytes(Tensor tensor) => new(tensor.HostPointer, (int)tensor.ByteLength);
}

/// <summary>The tensors of one call on the device; they are copied back when it ends.</summary>
internal sealed class MirrorCheckCall(IBackend device) : IDisposable
{
    private const int Offset = 4;
    private readonly List<(Tensor Host, Tensor Device, Tensor Memory)> _tensors = [];

    /// <summary>The device's copy of a tensor; the same for tensors over the same memory.</summary>
    public Tensor this[Tensor host]
    {
        get
        {
            if (!host.IsOnHost)
            {
                return host;
            }

            foreach ((Tensor known, Tensor copy, _) in _tensors)
            {
                if (known.Storage == host.Storage && known.ByteOffset == host.ByteOffset && known.ByteLength == host.ByteLength)
                {
                    return copy.Reshape(host.Shape);
                }
            }

            Tensor memory = device.Allocate(new Shape(host.ByteLength + Offset), DType.U8);
            Tensor target = new(host.Shape, host.DType, memory.Storage, Offset, ownsStorage: false);
            device.CopyFromHost(MirrorCheckBackend.Bytes(host), target);
            _tensors.Add((host, target, memory));
            return target;
        }
    }

    /// <summary>The same, null for null.</summary>
    public Tensor? Maybe(Tensor? host) => host is null ? null : this[host];

    public void Dispose()
    {
        foreach ((Tensor host, Tensor copy, Tensor memory) in _tensors)
        {
            device.CopyToHost(copy, MirrorCheckBackend.Bytes(host));
            memory.Dispose();
        }
    }
}
