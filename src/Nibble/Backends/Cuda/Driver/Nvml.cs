using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>NVIDIA's management library: the energy that a card has used.</summary>
internal static unsafe partial class Nvml
{
    private const string Library = "nibble-nvml";

    /// <summary>Joules since the driver was loaded of the card at a PCI address, or null where there is no counter.</summary>
    public static double? Joules(string pciBusId)
    {
        if (CudaLibraries.TryLoad(CudaLibraries.Nvml) == 0 || nvmlInit_v2() != 0)
        {
            return null;
        }

        return nvmlDeviceGetHandleByPciBusId_v2(pciBusId, out nint card) == 0 && nvmlDeviceGetTotalEnergyConsumption(card, out ulong millijoules) == 0
            ? millijoules / 1e3
            : null;
    }

    [LibraryImport(Library)]
    private static partial int nvmlInit_v2();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int nvmlDeviceGetHandleByPciBusId_v2(string pciBusId, out nint device);

    [LibraryImport(Library)]
    private static partial int nvmlDeviceGetTotalEnergyConsumption(nint device, out ulong millijoules);
}
