using System.Runtime.InteropServices;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Backends.Cuda;

namespace Nibble.Backends;

/// <summary>Outcome of one check.</summary>
public enum FindingState
{
    /// <summary>Works.</summary>
    Ok,

    /// <summary>Works with a limit that is worth knowing.</summary>
    Limited,

    /// <summary>Does not work.</summary>
    Broken,
}

/// <summary>One check of <see cref="Diagnosis"/>.</summary>
/// <param name="Check">What was looked at.</param>
/// <param name="State">The outcome.</param>
/// <param name="Found">What was found.</param>
/// <param name="Remedy">What to do, where there is something to do.</param>
public sealed record Finding(string Check, FindingState State, string Found, string? Remedy = null);

/// <summary>Looks at the machine the way <c>nibble doctor</c> reports it.</summary>
public static class Diagnosis
{
    private const string RaplFolder = "/sys/class/powercap/intel-rapl:0";

    /// <summary>Runs every check.</summary>
    public static IReadOnlyList<Finding> Run() =>
        [Runtime(), Vectors(), MachineCode(), BFloat16(), Memory(), TemporaryFolder(), Energy(), .. CudaDiagnosis.Run()];

    private static Finding Runtime() => new("runtime", FindingState.Ok, $"{RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription}");

    private static Finding Vectors()
    {
        IReadOnlyList<string> sets = MachineFacts.Read().InstructionSets;
        string found = sets.Count == 0 ? "none that Nibble knows" : string.Join(' ', sets);
        return sets.Contains("avx2")
            ? new("vector instructions", FindingState.Ok, found)
            : new("vector instructions", FindingState.Limited, found, "the portable kernels run: correct, several times slower");
    }

    private static Finding MachineCode()
    {
        const string Check = "machine code";
        MachineCodeSupport support = MachineCodeSupport.Current;
        if (support.WhyNoVnni is { } why)
        {
            return new(Check, FindingState.Limited, why, "prompts in int8 take the compiled kernels: the same results, a half to a third of the speed where the processor has the instructions");
        }

        return support.WhyNoTiles is { } noTiles
            ? new(Check, FindingState.Ok, $"AVX512-VNNI runs for prompts in int8; no tiles: {noTiles}")
            : new(Check, FindingState.Ok, "AVX512-VNNI and AMX run for prompts in int8");
    }

    private static Finding BFloat16()
    {
        const string Check = "products in BF16";
        CpuVariant variant = CpuVariant.All.First(v => v.IsSupported);
        return variant.WhyNoBFloat16() is { } why
            ? new(Check, FindingState.Limited, $"multiplied as F32: {why}", "--activations bf16 works and is slower than f32 here: leave it out")
            : new(Check, FindingState.Ok, $"{variant.BFloat16.Name} runs for --activations bf16");
    }

    private static Finding Memory()
    {
        long bytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        return new("memory", FindingState.Ok, $"{bytes / 1e9:F1} GB for this process");
    }

    private static Finding TemporaryFolder()
    {
        string folder = Path.GetTempPath();
        try
        {
            string probe = Path.Combine(folder, Path.GetRandomFileName());
            File.WriteAllText(probe, string.Empty);
            File.Delete(probe);
            return new("temporary folder", FindingState.Ok, folder);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return new("temporary folder", FindingState.Broken, $"{folder}: {error.Message}", "set TMPDIR to a folder that you can write");
        }
    }

    private static Finding Energy()
    {
        string counter = Path.Combine(RaplFolder, "energy_uj");
        try
        {
            File.ReadAllText(counter);
            return new("energy counter", FindingState.Ok, "RAPL is readable: energy is measured");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            string why = Directory.Exists(RaplFolder) ? "RAPL is there but not readable" : "no RAPL counter here";
            return new("energy counter", FindingState.Limited, why, "energy is an estimate and is labelled so; on bare metal, give read permission on " + counter);
        }
    }
}
