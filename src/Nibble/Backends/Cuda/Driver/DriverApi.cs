using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>The CUDA driver API (libcuda), as far as it is used here; every function returns a CUresult.</summary>
internal static unsafe partial class DriverApi
{
    public const int ComputeCapabilityMajor = 75;
    public const int ComputeCapabilityMinor = 76;
    public const int MultiprocessorCount = 16;
    public const int MostSharedBytes = 97;
    public const int CaptureRelaxed = 2;
    public const int MaxDynamicSharedBytes = 8;
    public const int MapBFloat16 = 9;
    public const int MapSwizzle128 = 3;
    public const int MapPromotion128 = 2;
    public const uint StreamNonBlocking = 1;
    public const uint EventWithoutTime = 2;
    private const string Library = "nibble-cuda";

    [LibraryImport(Library)]
    public static partial int cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial int cuDriverGetVersion(out int version);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetCount(out int count);

    [LibraryImport(Library)]
    public static partial int cuDeviceGet(out int device, int ordinal);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetAttribute(out int value, int attribute, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceTotalMem_v2(out nuint bytes, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetPCIBusId(byte* text, int length, int device);

    [LibraryImport(Library)]
    public static partial int cuDevicePrimaryCtxRetain(out nint context, int device);

    [LibraryImport(Library)]
    public static partial int cuDevicePrimaryCtxRelease_v2(int device);

    [LibraryImport(Library)]
    public static partial int cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    public static partial int cuMemGetInfo_v2(out nuint free, out nuint total);

    [LibraryImport(Library)]
    public static partial int cuMemAlloc_v2(out nint address, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cuMemFree_v2(nint address);

    [LibraryImport(Library)]
    public static partial int cuMemHostAlloc(out nint address, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial int cuMemFreeHost(nint address);

    [LibraryImport(Library)]
    public static partial int cuMemcpyHtoDAsync_v2(nint destination, void* source, nuint bytes, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoHAsync_v2(void* destination, nint source, nuint bytes, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoDAsync_v2(nint destination, nint source, nuint bytes, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuMemsetD8Async(nint destination, byte value, nuint count, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuStreamCreate(out nint stream, uint flags);

    [LibraryImport(Library)]
    public static partial int cuStreamDestroy_v2(nint stream);

    [LibraryImport(Library)]
    public static partial int cuStreamWaitEvent(StreamHandle stream, EventHandle handle, uint flags);

    [LibraryImport(Library)]
    public static partial int cuStreamSynchronize(StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuEventCreate(out nint handle, uint flags);

    [LibraryImport(Library)]
    public static partial int cuEventDestroy_v2(nint handle);

    [LibraryImport(Library)]
    public static partial int cuEventRecord(EventHandle handle, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuEventSynchronize(EventHandle handle);

    [LibraryImport(Library, EntryPoint = "cuEventElapsedTime")]
    public static partial int cuEventElapsedTime(out float milliseconds, EventHandle start, EventHandle end);

    [LibraryImport(Library)]
    public static partial int cuModuleLoadData(out nint module, void* image);

    [LibraryImport(Library)]
    public static partial int cuModuleUnload(nint module);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int cuModuleGetFunction(out nint function, ModuleHandle module, string name);

    [LibraryImport(Library)]
    public static partial int cuFuncSetAttribute(nint function, int attribute, int value);

    [LibraryImport(Library)]
    public static partial int cuLaunchKernel(
        nint function, uint gridX, uint gridY, uint gridZ, uint blockX, uint blockY, uint blockZ, uint sharedBytes, StreamHandle stream, void** arguments, void** extra);

    [LibraryImport(Library)]
    public static partial int cuLaunchKernelEx(LaunchConfig* config, nint function, void** arguments, void** extra);

    [LibraryImport(Library)]
    public static partial int cuTensorMapEncodeTiled(
        void* map, int type, uint rank, nint address, ulong* sizes, ulong* strides, uint* box, uint* steps, int interleave, int swizzle, int promotion, int fill);

    [LibraryImport(Library)]
    public static partial int cuStreamBeginCapture_v2(StreamHandle stream, int mode);

    [LibraryImport(Library)]
    public static partial int cuStreamEndCapture(StreamHandle stream, out nint graph);

    [LibraryImport(Library)]
    public static partial int cuGraphInstantiateWithFlags(out nint executable, nint graph, ulong flags);

    [LibraryImport(Library)]
    public static partial int cuGraphLaunch(GraphHandle graph, StreamHandle stream);

    [LibraryImport(Library)]
    public static partial int cuGraphDestroy(nint graph);

    [LibraryImport(Library)]
    public static partial int cuGraphExecDestroy(nint executable);

    [LibraryImport(Library)]
    public static partial int cuGetErrorName(int error, out nint text);

    [LibraryImport(Library)]
    public static partial int cuGetErrorString(int error, out nint text);
}

/// <summary><c>CUlaunchAttribute</c>: what is known of a launch besides its shape.</summary>
[StructLayout(LayoutKind.Sequential, Size = 72)]
internal struct LaunchAttribute
{
    /// <summary>The launch may begin while the kernel before it in the stream still runs.</summary>
    public const int Overlaps = 6;

    public int Id;
    public int Padding;
    public int Value;
}

/// <summary><c>CUlaunchConfig</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LaunchConfig
{
    public uint GridX, GridY, GridZ, BlockX, BlockY, BlockZ, SharedBytes;
    public nint Stream;
    public LaunchAttribute* Attributes;
    public uint AttributeCount;
}
