using System.Reflection;
using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>One of NVIDIA's libraries: the names under which it may be found, newest first.</summary>
/// <param name="Key">Name in <c>LibraryImport</c>.</param>
/// <param name="Names">File names.</param>
/// <param name="What">What it is for.</param>
internal sealed record CudaLibrary(string Key, string[] Names, string What);

/// <summary>
/// Finds NVIDIA's libraries at run time; Nibble is built without them. Looked at are, in order: <c>NIBBLE_CUDA_LIBRARIES</c>, CUDA_HOME
/// and CUDA_PATH, the loader's path, /usr/local/cuda, and the folders in which Python wheels keep them.
/// </summary>
internal static class CudaLibraries
{
    /// <summary>Environment variable: folders to look in first.</summary>
    public const string FoldersVariable = "NIBBLE_CUDA_LIBRARIES";

    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, nint> Loaded = [];

    // Connects the imports of this assembly with the libraries that are found here: whoever imports asks TryLoad first.
    static CudaLibraries() => NativeLibrary.SetDllImportResolver(
        Assembly.GetExecutingAssembly(), (name, _, _) => All.FirstOrDefault(library => library.Key == name) is { } known ? TryLoad(known) : 0);

    public static CudaLibrary Driver { get; } = new("nibble-cuda", OnWindows(["nvcuda.dll"], ["libcuda.so.1"]), "the NVIDIA driver");

    public static CudaLibrary Nvrtc { get; } = new(
        "nibble-nvrtc",
        OnWindows(["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll"], ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"]),
        "the run-time compiler of kernels");

    public static CudaLibrary CublasLt { get; } = new(
        "nibble-cublaslt", OnWindows(["cublasLt64_13.dll", "cublasLt64_12.dll"], ["libcublasLt.so.13", "libcublasLt.so.12"]), "matrix products");

    public static CudaLibrary Cudnn { get; } = new("nibble-cudnn", OnWindows(["cudnn64_9.dll"], ["libcudnn.so.9"]), "attention of training");

    public static CudaLibrary Nvml { get; } = new("nibble-nvml", OnWindows(["nvml.dll"], ["libnvidia-ml.so.1"]), "the energy counter");

    public static IReadOnlyList<CudaLibrary> All { get; } = [Driver, Nvrtc, CublasLt, Cudnn, Nvml];

    /// <summary>Loads a library; 0 if it is nowhere.</summary>
    public static nint TryLoad(CudaLibrary library)
    {
        lock (Gate)
        {
            if (!Loaded.TryGetValue(library.Key, out nint handle))
            {
                handle = Load(library);
                Loaded.Add(library.Key, handle);
            }

            return handle;
        }
    }

    /// <summary>Where libraries are looked for beside the loader's own path.</summary>
    public static IEnumerable<string> Folders()
    {
        foreach (string folder in (Environment.GetEnvironmentVariable(FoldersVariable) ?? string.Empty).Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            yield return folder;
        }

        foreach (string? root in new[] { Environment.GetEnvironmentVariable("CUDA_HOME"), Environment.GetEnvironmentVariable("CUDA_PATH"), "/usr/local/cuda" })
        {
            foreach (string part in string.IsNullOrEmpty(root) ? [] : new[] { "lib64", "lib", "bin", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib" })
            {
                yield return Path.Combine(root!, part);
            }
        }

        foreach (string site in SitePackages())
        {
            foreach (string part in new[] { "cu13/lib", "cuda_nvrtc/lib", "cublas/lib", "cudnn/lib", "cu13/bin", "cuda_nvrtc/bin", "cublas/bin", "cudnn/bin" })
            {
                yield return Path.Combine(site, "nvidia", part);
            }
        }
    }

    private static string[] OnWindows(string[] windows, string[] elsewhere) => OperatingSystem.IsWindows() ? windows : elsewhere;

    private static IEnumerable<string> SitePackages()
    {
        string?[] roots = [Environment.GetEnvironmentVariable("VIRTUAL_ENV"), Environment.GetEnvironmentVariable("CONDA_PREFIX"), Path.Combine(Home(), ".local"), "/usr/local", "/usr"];
        foreach (string lib in roots.Where(root => !string.IsNullOrEmpty(root)).Select(root => Path.Combine(root!, "lib")).Where(Directory.Exists))
        {
            foreach (string python in Directory.EnumerateDirectories(lib, "python3*").OrderDescending())
            {
                yield return Path.Combine(python, "site-packages");
                yield return Path.Combine(python, "dist-packages");
            }
        }
    }

    private static string Home() => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    private static nint Load(CudaLibrary library)
    {
        foreach (string folder in Folders().Where(Directory.Exists))
        {
            foreach (string path in library.Names.Select(name => Path.Combine(folder, name)).Where(File.Exists))
            {
                LoadCompanions(library, folder);
                if (NativeLibrary.TryLoad(path, out nint handle))
                {
                    return handle;
                }
            }
        }

        return library.Names.Select(name => NativeLibrary.TryLoad(name, out nint handle) ? handle : 0).FirstOrDefault(handle => handle != 0);
    }

    // NVRTC opens its built-ins by name, which the loader finds only if they are loaded already.
    private static void LoadCompanions(CudaLibrary library, string folder)
    {
        if (library == Nvrtc)
        {
            foreach (string path in Directory.EnumerateFiles(folder, "*nvrtc-builtins*"))
            {
                NativeLibrary.TryLoad(path, out _);
            }
        }
    }
}
