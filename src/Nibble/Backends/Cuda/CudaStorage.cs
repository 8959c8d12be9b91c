using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Memory of a card. Unlike the processor's it has no finalizer, so that a tensor whose last use is an op need not outlive it (there is nothing like
/// <see cref="Operands"/> here): what is collected without being disposed of stays taken until the allocator goes, and what is disposed of may be used
/// again at once, because all work is one queue: whoever gets it is queued behind those who had it. Copies beside that queue wait for it and are waited for
/// (<see cref="CudaOffload"/>).
/// </summary>
internal sealed class CudaStorage : Storage
{
    private readonly CachingAllocator _allocator;
    private nint _address;

    public CudaStorage(CachingAllocator allocator, nint byteLength, string what)
        : base(byteLength) => (_allocator, _address) = (allocator, allocator.Allocate(byteLength, what));

    /// <summary>First byte; valid until the storage is disposed.</summary>
    public nint Address => _address != 0 ? _address : throw new ObjectDisposedException(nameof(CudaStorage));

    /// <summary>Address of a tensor's first element, 0 for null.</summary>
    public static nint AddressOf(Tensor? tensor) => tensor?.Storage switch
    {
        null => 0,
        CudaStorage storage => storage.Address + tensor.ByteOffset,
        _ => throw new InvalidOperationException($"tensor {tensor.DType} {tensor.Shape} is on the host: copy it to the card first (IBackend.CopyFromHost)"),
    };

    public override void Dispose()
    {
        if (_address != 0)
        {
            _allocator.Free(_address);
            _address = 0;
        }
    }
}
