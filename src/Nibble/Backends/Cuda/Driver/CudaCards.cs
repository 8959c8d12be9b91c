using System.Text;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>The cards that the driver shows.</summary>
internal static unsafe class CudaCards
{
    /// <summary>Why no card can be used, or null if one can.</summary>
    public static NibbleException? Problem()
    {
        try
        {
            RequireDriver();
            return Count() > 0 ? null : new NibbleException(ErrorKind.NotFound, "the NVIDIA driver shows no card", null, "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu");
        }
        catch (NibbleException error)
        {
            return error;
        }
    }

    /// <summary>Starts the driver.</summary>
    /// <exception cref="NibbleException">It is not here, or does not start.</exception>
    public static void RequireDriver()
    {
        if (CudaLibraries.TryLoad(CudaLibraries.Driver) == 0)
        {
            Throw.NotFound(
                "--device cuda is not available: no NVIDIA driver",
                $"looked for {string.Join(", ", CudaLibraries.Driver.Names)}",
                "install the driver (in a container, start it with GPU access), or use --device cpu");
        }

        CudaErrors.Check(DriverApi.cuInit(0), "cuInit");
    }

    /// <summary>Number of cards.</summary>
    public static int Count()
    {
        CudaErrors.Check(DriverApi.cuDeviceGetCount(out int count), "cuDeviceGetCount");
        return count;
    }

    /// <summary>All cards; none where there is no driver.</summary>
    public static IReadOnlyList<CudaFacts> All() => Problem() is null ? [.. Enumerable.Range(0, Count()).Select(FactsOf)] : [];

    /// <summary>The facts of a device.</summary>
    public static CudaFacts Facts(int device)
    {
        byte* name = stackalloc byte[256];
        CudaErrors.Check(DriverApi.cuDeviceGetName(name, 256, device), "cuDeviceGetName");
        CudaErrors.Check(DriverApi.cuDeviceTotalMem_v2(out nuint bytes, device), "cuDeviceTotalMem");
        CudaErrors.Check(DriverApi.cuDriverGetVersion(out int version), "cuDriverGetVersion");
        return new CudaFacts(
            Text(name), Attribute(device, DriverApi.ComputeCapabilityMajor), Attribute(device, DriverApi.ComputeCapabilityMinor),
            Attribute(device, DriverApi.MultiprocessorCount), (long)bytes, version, Attribute(device, DriverApi.MostSharedBytes));
    }

    /// <summary>PCI address of a device.</summary>
    public static string PciBusId(int device)
    {
        byte* text = stackalloc byte[32];
        CudaErrors.Check(DriverApi.cuDeviceGetPCIBusId(text, 32, device), "cuDeviceGetPCIBusId");
        return Text(text);
    }

    private static CudaFacts FactsOf(int ordinal)
    {
        CudaErrors.Check(DriverApi.cuDeviceGet(out int device, ordinal), "cuDeviceGet");
        return Facts(device);
    }

    private static int Attribute(int device, int attribute)
    {
        CudaErrors.Check(DriverApi.cuDeviceGetAttribute(out int value, attribute, device), $"cuDeviceGetAttribute {attribute}");
        return value;
    }

    private static string Text(byte* text) => Encoding.UTF8.GetString(System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text));
}
