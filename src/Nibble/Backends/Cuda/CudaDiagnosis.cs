using Nibble.Backends.Cuda.Driver;
using Nibble.IO;

namespace Nibble.Backends.Cuda;

/// <summary>What <c>nibble doctor</c> says about <c>--device cuda</c>.</summary>
internal static class CudaDiagnosis
{
    /// <summary>The driver first; without one the libraries do not matter.</summary>
    public static IReadOnlyList<Finding> Run()
    {
        if (CudaCards.Problem() is { } problem)
        {
            string found = string.Join("; ", new[] { problem.What, problem.Why }.Where(text => !string.IsNullOrEmpty(text)));
            return [new Finding("gpu", FindingState.Limited, found, $"everything runs on the CPU; for a card: {problem.Remedy}")];
        }

        string cards = string.Join(", ", CudaCards.All().Select(card => $"{card.Name} ({card.Architecture}, driver for CUDA {card.DriverVersion / 1000}.{card.DriverVersion % 1000 / 10})"));
        return [new Finding("gpu", FindingState.Ok, cards), .. CudaLibraries.All.Where(library => library != CudaLibraries.Driver).Select(Library), Cache()];
    }

    private static Finding Library(CudaLibrary library)
    {
        string check = "gpu: " + library.What;
        if (library == CudaLibraries.Cudnn)
        {
            string remedy = CudnnAttention.IsKeptOut ? $"unset {CudnnAttention.Variable}" : $"install it or the Python wheel nvidia-cudnn-cu13; {CudaLibraries.FoldersVariable} names folders";
            return CudnnAttention.Problem() is { } problem
                ? new(check, FindingState.Limited, $"Nibble's own kernels ({problem})", $"cuDNN 9 is faster: {remedy}")
                : new(check, FindingState.Ok, $"cuDNN {CudnnAttention.Version()}; {CudnnAttention.Variable}=own keeps it out");
        }

        return CudaLibraries.TryLoad(library) != 0
            ? new(check, FindingState.Ok, "found")
            : new(check, FindingState.Limited, $"none of {string.Join(", ", library.Names)} was found", $"install CUDA 12 or 13 or its Python wheels; {CudaLibraries.FoldersVariable} names folders");
    }

    private static Finding Cache()
    {
        string folder = KernelCompiler.CacheFolder();
        try
        {
            Directory.CreateDirectory(folder);
            AtomicFile.WriteAllBytes(Path.Combine(folder, ".probe"), []);
            return new("gpu: compiled kernels", FindingState.Ok, folder);
        }
        catch (Exception error) when (error is NibbleException or IOException or UnauthorizedAccessException)
        {
            return new("gpu: compiled kernels", FindingState.Limited, $"{folder} can't be written", "kernels are compiled at every start: set NIBBLE_CACHE to a folder that you can write");
        }
    }
}
