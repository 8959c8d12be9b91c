namespace Nibble.Backends.Cuda;

/// <summary>How many parts of a result are done, for kernels whose last block joins them: zeros, which each kernel leaves as such. Made when first used.</summary>
internal sealed class CudaCounters(CachingMemory memory, int count)
{
    private CudaStorage? _storage;

    public nint Address
    {
        get
        {
            if (_storage is null)
            {
                _storage = memory.Rent((nint)count * sizeof(uint), "counters");
                Clear();
            }

            return _storage.Address;
        }
    }

    /// <summary>Writes the zeros again, between kernels.</summary>
    public void Clear()
    {
        if (_storage is not null)
        {
            memory.Device.Clear(_storage.Address, _storage.ByteLength);
        }
    }
}
