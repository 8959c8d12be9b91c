using Nibble.Backends.Cuda.Driver;

namespace Nibble.Backends.Cuda;

/// <summary>A pass of one token per row as a CUDA graph. Where the token goes stands in the card's memory, so one graph serves every step.</summary>
internal sealed unsafe class CudaStep : IRecordedStep
{
    private readonly CachingMemory _memory;
    private readonly CudaStorage _slot;
    private readonly RecordedWork _work;
    private readonly nint[] _held;

    private CudaStep(CachingMemory memory, CudaStorage slot, RecordedWork work, nint[] held) => (_memory, _slot, _work, _held) = (memory, slot, work, held);

    /// <summary>Records a step; null if the device can't, or if the step has calls for one place only.</summary>
    public static CudaStep? Record(CachingMemory memory, CudaKernels kernels, Action step)
    {
        CudaStorage slot = memory.Rent(sizeof(int), "recorded steps");
        memory.Allocator.BeginHold();
        (kernels.Slot, kernels.HoldsPlace) = (slot.Address, false);
        RecordedWork? work = null;
        nint[] held = [];
        try
        {
            work = memory.Device.Record(step);
            if (kernels.HoldsPlace)
            {
                work?.Held.Dispose();
                work = null;
            }
        }
        finally
        {
            kernels.Slot = 0;
            held = memory.Allocator.EndHold();
            memory.ClearCounters();
            if (work is null)
            {
                GiveBack(memory, slot, held);
            }
        }

        return work is null ? null : new CudaStep(memory, slot, work, held);
    }

    public void Replay(int slot)
    {
        _memory.Device.Upload(&slot, _slot.Address, sizeof(int));
        _work.Queue();
    }

    public void Dispose()
    {
        _memory.Device.Synchronize();
        _work.Held.Dispose();
        GiveBack(_memory, _slot, _held);
    }

    private static void GiveBack(CachingMemory memory, CudaStorage slot, nint[] held)
    {
        slot.Dispose();
        foreach (nint address in held)
        {
            memory.Allocator.Free(address);
        }
    }
}
