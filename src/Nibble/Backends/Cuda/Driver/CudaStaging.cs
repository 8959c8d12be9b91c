namespace Nibble.Backends.Cuda.Driver;

/// <summary>
/// Copies between ordinary memory of the host and a card: through a few pinned buffers in turn, so that the card copies one while the processor's
/// threads fill or empty another. A copy to the card waits for nothing but a buffer.
/// </summary>
internal sealed unsafe class CudaStaging(StreamHandle stream) : IDisposable
{
    private const int Buffers = 3, ThreadBytes = 1 << 20;
    private const nint BufferBytes = 8 << 20;
    private readonly Lock _lock = new();
    private readonly Slot?[] _slots = new Slot?[Buffers];
    private int _next;

    /// <summary>Queues a copy to the card; the source may change when the call returns.</summary>
    public void Upload(byte* source, nint destination, nint bytes)
    {
        lock (_lock)
        {
            for (nint at = 0; at < bytes; at += BufferBytes)
            {
                nint part = nint.Min(BufferBytes, bytes - at);
                Slot slot = Next();
                CopyByThreads(source + at, slot.Pointer, part);
                CudaErrors.Check(DriverApi.cuMemcpyHtoDAsync_v2(destination + at, slot.Pointer, (nuint)part, stream), "cuMemcpyHtoDAsync");
                slot.Mark(stream);
            }
        }
    }

    /// <summary>Waits for the queue, and copies to the host.</summary>
    public void Download(nint source, byte* destination, nint bytes)
    {
        lock (_lock)
        {
            Queue<(Slot Slot, nint At, nint Bytes)> flying = [];
            void Land()
            {
                (Slot slot, nint at, nint part) = flying.Dequeue();
                slot.Wait();
                CopyByThreads(slot.Pointer, destination + at, part);
            }

            for (nint at = 0; at < bytes; at += BufferBytes)
            {
                if (flying.Count == Buffers)
                {
                    Land();
                }

                nint part = nint.Min(BufferBytes, bytes - at);
                Slot slot = Next();
                CudaErrors.Check(DriverApi.cuMemcpyDtoHAsync_v2(slot.Pointer, source + at, (nuint)part, stream), "cuMemcpyDtoHAsync");
                slot.Mark(stream);
                flying.Enqueue((slot, at, part));
            }

            while (flying.Count > 0)
            {
                Land();
            }
        }
    }

    public void Dispose()
    {
        foreach (Slot? slot in _slots)
        {
            slot?.Dispose();
        }
    }

    // The buffer that was used longest ago, once the card is done with it.
    private Slot Next()
    {
        int index = _next++ % Buffers;
        Slot slot = _slots[index] ??= new Slot();
        slot.Wait();
        return slot;
    }

    // One thread copies, or makes pages of fresh memory, at a third of what the card's link carries.
    private static void CopyByThreads(byte* source, byte* target, nint bytes)
    {
        int parts = (int)nint.Min(Math.Min(8, Environment.ProcessorCount), bytes / ThreadBytes);
        if (parts < 2)
        {
            Buffer.MemoryCopy(source, target, bytes, bytes);
            return;
        }

        Parallel.For(0, parts, i =>
        {
            nint start = bytes / parts * i, end = i == parts - 1 ? bytes : bytes / parts * (i + 1);
            Buffer.MemoryCopy(source + start, target + start, end - start, end - start);
        });
    }

    private sealed class Slot : IDisposable
    {
        private readonly PinnedHandle _memory = PinnedHandle.Allocate(BufferBytes);
        private readonly EventHandle _done;

        public Slot()
        {
            CudaErrors.Check(DriverApi.cuEventCreate(out nint handle, DriverApi.EventWithoutTime), "cuEventCreate");
            _done = new EventHandle(handle);
        }

        public byte* Pointer => _memory.Pointer;

        public void Mark(StreamHandle queue) => CudaErrors.Check(DriverApi.cuEventRecord(_done, queue), "cuEventRecord");

        public void Wait() => CudaErrors.Check(DriverApi.cuEventSynchronize(_done), "cuEventSynchronize");

        public void Dispose()
        {
            _done.Dispose();
            _memory.Dispose();
        }
    }
}
