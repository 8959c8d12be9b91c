using System.Runtime.CompilerServices;
using Nibble.Backends.Cuda.Driver;

namespace Nibble.Backends.Cuda;

/// <summary>A card with its allocator: buffers in terms of elements.</summary>
internal sealed unsafe class CachingMemory(ICudaDevice device, CachingAllocator allocator)
{
    private readonly List<CudaCounters> _counters = [];

    public ICudaDevice Device => device;

    public CachingAllocator Allocator => allocator;

    /// <summary>Memory for one call; it is free again when the lease ends, for work that is queued later.</summary>
    public CudaStorage Rent(nint bytes, string what) => new(allocator, bytes, what);

    /// <summary>Counters of a kernel.</summary>
    public CudaCounters Counters(int count)
    {
        CudaCounters counters = new(this, count);
        _counters.Add(counters);
        return counters;
    }

    /// <summary>After a recording: counters that were first used in it were cleared in it alone, which has not run, and may never.</summary>
    public void ClearCounters()
    {
        foreach (CudaCounters counters in _counters)
        {
            counters.Clear();
        }
    }

    /// <summary>A buffer with a copy of host values.</summary>
    public CudaStorage Upload<T>(ReadOnlySpan<T> values, string what)
        where T : unmanaged
    {
        CudaStorage storage = new(allocator, (nint)values.Length * Unsafe.SizeOf<T>(), what);
        fixed (T* source = values)
        {
            Upload(source, storage);
        }

        return storage;
    }

    /// <summary>Fills a buffer from host memory.</summary>
    public void Upload(void* source, CudaStorage target)
    {
        if (target.ByteLength > 0)
        {
            device.Upload(source, target.Address, target.ByteLength);
        }
    }

    /// <summary>A buffer's values on the host.</summary>
    public T[] Download<T>(CudaStorage storage)
        where T : unmanaged
    {
        T[] values = new T[checked((int)(storage.ByteLength / Unsafe.SizeOf<T>()))];
        fixed (T* target = values)
        {
            if (values.Length > 0)
            {
                device.Download(storage.Address, target, storage.ByteLength);
            }
        }

        return values;
    }
}
