using System.Runtime.InteropServices;

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

    protected override bool ReleaseHandle() => DriverApi.cuMemFreeHost(handle) == 0;
}

/// <summary>Recorded work, ready to run.</summary>
internal sealed class GraphHandle(nint executable) : DriverHandle(executable)
{
    protected override bool ReleaseHandle() => DriverApi.cuGraphExecDestroy(handle) == 0;
}
