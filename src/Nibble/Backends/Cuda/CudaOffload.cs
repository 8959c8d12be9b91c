using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Buffers of a card that wait in pinned memory of the host: copies run beside the card's work, in both directions. What leaves may be used
/// again, and what comes may be read, once <see cref="Wait"/> was called after it.
/// </summary>
internal sealed class CudaOffload(CachingMemory memory) : IDisposable
{
    private readonly List<(nint Address, nint Bytes)> _slots = [];

    /// <summary>Bytes of the host's memory.</summary>
    public long ByteLength => _slots.Sum(slot => (long)slot.Bytes);

    /// <summary>Queues a copy to a slot of the host.</summary>
    public void Out(int slot, Tensor source)
    {
        while (_slots.Count <= slot)
        {
            _slots.Add((0, 0));
        }

        if (_slots[slot].Bytes < source.ByteLength)
        {
            if (_slots[slot].Address != 0)
            {
                WaitForCopies();
            }

            Free(slot);
            _slots[slot] = (memory.Device.AllocatePinned(source.ByteLength), source.ByteLength);
        }

        memory.Device.CopyOutBeside(CudaStorage.AddressOf(source), _slots[slot].Address, source.ByteLength);
    }

    /// <summary>Queues a copy back.</summary>
    public void In(int slot, Tensor target) => memory.Device.CopyInBeside(_slots[slot].Address, CudaStorage.AddressOf(target), target.ByteLength);

    /// <summary>Work that is queued from now on comes after all copies that were queued before.</summary>
    public void Wait() => memory.Device.WaitBeside();

    public void Dispose()
    {
        WaitForCopies();
        for (int slot = 0; slot < _slots.Count; slot++)
        {
            Free(slot);
        }

        _slots.Clear();
    }

    // No copy may still use it.
    private void Free(int slot)
    {
        if (_slots[slot].Address != 0)
        {
            memory.Device.FreePinned(_slots[slot].Address);
            _slots[slot] = default;
        }
    }

    private void WaitForCopies()
    {
        Wait();
        memory.Device.Synchronize();
    }
}
