using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>Something of the driver that must be given back.</summary>
internal abstract class DriverHandle : SafeHandle
{
    protected DriverHandle(nint value)
        : base(0, ownsHandle: true) => SetHandle(value);

    public override bool IsInvalid => handle == 0;
}

/// <summary>The primary context of a card, shared with other libraries of the process.</summary>
internal sealed class ContextHandle(nint context, int device) : DriverHandle(context)
{
    public nint Value => handle;

    protected override bool ReleaseHandle() => DriverApi.cuDevicePrimaryCtxRelease_v2(device) == 0;
}

/// <summary>A compiled source on a card.</summary>
internal sealed class ModuleHandle(nint module) : DriverHandle(module)
{
    protected override bool ReleaseHandle() => DriverApi.cuModuleUnload(handle) == 0;
}

/// <summary>A queue of work.</summary>
internal sealed class StreamHandle(nint stream) : DriverHandle(stream)
{
    public nint Value => handle;

    protected override bool ReleaseHandle() => DriverApi.cuStreamDestroy_v2(handle) == 0;
}

/// <summary>A mark in a queue, with its time.</summary>
internal sealed class EventHandle(nint value) : DriverHandle(value)
{
    protected override bool ReleaseHandle() => DriverApi.cuEventDestroy_v2(handle) == 0;
}

/// <summary>Memory of a card.</summary>
internal sealed class MemoryHandle(nint address) : DriverHandle(address)
{
    protected override bool ReleaseHandle() => DriverApi.cuMemFree_v2(handle) == 0;
}

/// <summary>Host memory that a card can read by itself.</summary>
internal sealed unsafe class PinnedHandle(nint address) : DriverHandle(address)
{
    public byte* Pointer => (byte*)handle;

    /// <summary>Takes memory, of which the host has to have enough that may be locked.</summary>
    public static PinnedHandle Allocate(nint bytes)
    {
        int code = DriverApi.cuMemHostAlloc(out nint address, (nuint)bytes, 0);
        if (code == CudaErrors.OutOfMemory)
        {
            Throw.Failed(
                $"{bytes:N0} bytes of the host's memory could not be pinned for the card",
                "this is memory of the host, not of the card: it has no more, or its limit for locked memory is reached",
                "free memory of the host, or leave out --offload-checkpoints and optimizers that begin with paged-");
        }

        CudaErrors.Check(code, $"cuMemHostAlloc of {bytes:N0} bytes");
        return new PinnedHandle(address);
    }

    protected override bool ReleaseHandle() => DriverApi.cuMemFreeHost(handle) == 0;
}

/// <summary>Recorded work, ready to run.</summary>
internal sealed class GraphHandle(nint executable) : DriverHandle(executable)
{
    protected override bool ReleaseHandle() => DriverApi.cuGraphExecDestroy(handle) == 0;
}
