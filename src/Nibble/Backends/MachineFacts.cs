using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.MachineCode;

namespace Nibble.Backends;

/// <summary>The processor that the CPU backend runs on.</summary>
/// <param name="Device">Name of the device on the command line.</param>
/// <param name="Processor">The processor's name as the system tells it.</param>
/// <param name="Cores">Logical processors that this process may use.</param>
/// <param name="MemoryBytes">Memory that this process may use.</param>
/// <param name="InstructionSets">The vector extensions that kernels can use here.</param>
public sealed record MachineFacts(string Device, string Processor, int Cores, long MemoryBytes, IReadOnlyList<string> InstructionSets)
{
    /// <summary>Reads the facts of this machine.</summary>
    public static MachineFacts Read() => new(
        "cpu",
        ProcessorName(),
        Environment.ProcessorCount,
        GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
        [.. Extensions().Where(extension => extension.Supported).Select(extension => extension.Name)]);

    private static IEnumerable<(string Name, bool Supported)> Extensions()
    {
        yield return ("avx2", Avx2.IsSupported);
        yield return ("fma", Fma.IsSupported);
        yield return ("avx-vnni", AvxVnni.IsSupported);
        yield return ("avx512f", Avx512F.IsSupported);
        yield return ("avx512bw", Avx512BW.IsSupported);
        yield return ("avx512vbmi", Avx512Vbmi.IsSupported);
        yield return ("avx512vnni", MachineCodeSupport.Current.WhyNoVnni is null);
        yield return ("amx-int8", MachineCodeSupport.Current.WhyNoTiles is null);
        yield return ("neon", System.Runtime.Intrinsics.Arm.AdvSimd.IsSupported);
    }

    private static string ProcessorName()
    {
        const string CpuInfo = "/proc/cpuinfo";
        if (File.Exists(CpuInfo))
        {
            string? line = File.ReadLines(CpuInfo).FirstOrDefault(text => text.StartsWith("model name", StringComparison.Ordinal));
            if (line is not null)
            {
                return line[(line.IndexOf(':') + 1)..].Trim();
            }
        }

        return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
