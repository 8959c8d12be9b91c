using System.Security.Cryptography;
using System.Text;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>
/// Compiles the embedded sources for a card by NVRTC. Results are kept in the user's cache folder under a hash of everything that they
/// depend on: source, headers, options, compiler and driver.
/// </summary>
internal sealed unsafe class KernelCompiler(string architecture, int driverVersion, string? cacheFolder = null)
{
    private readonly string _folder = cacheFolder ?? CacheFolder();

    /// <summary>Where compiled kernels are kept: NIBBLE_CACHE, else XDG_CACHE_HOME, else the user's cache folder.</summary>
    public static string CacheFolder()
    {
        string? own = Environment.GetEnvironmentVariable("NIBBLE_CACHE");
        string? xdg = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string root = !string.IsNullOrEmpty(own) ? own : Path.Combine(!string.IsNullOrEmpty(xdg) ? xdg : Path.Combine(home, ".cache"), "nibble");
        return Path.Combine(root, "cuda");
    }

    /// <summary>True if an NVRTC is here.</summary>
    public static bool IsAvailable => CudaLibraries.TryLoad(CudaLibraries.Nvrtc) != 0;

    /// <summary>The version of the NVRTC that is here.</summary>
    public static (int Major, int Minor) Version()
    {
        CudaErrors.CheckNvrtc(NvrtcApi.nvrtcVersion(out int major, out int minor), "nvrtcVersion");
        return (major, minor);
    }

    /// <summary>Machine code (or PTX, for a card newer than the compiler) of a source.</summary>
    public byte[] Compile(string source)
    {
        string text = CudaSources.Source(source);
        string[] options = Options();
        string path = Path.Combine(_folder, $"{source}-{architecture}-{Key(text, options)}.bin");
        if (ReadCached(path) is { } cached)
        {
            return cached;
        }

        byte[] code = CompileNow(source + ".cu", text, options);
        WriteCached(path, code);
        return code;
    }

    /// <summary>The options for this card. A card that the compiler does not know gets PTX of the newest architecture that it does.</summary>
    public string[] Options() => [$"--gpu-architecture={(IsKnown() ? architecture + (HasGroupProducts(architecture) ? "a" : string.Empty) : Newest())}", "--std=c++17"];

    /// <summary>True if the compiler knows the products of warpgroups that cards of an architecture have (<c>wgmma</c>: 9.0, from CUDA 12 on).</summary>
    public static bool HasGroupProducts(string architecture) => architecture == "sm_90" && Version().Major >= 12;

    private bool IsKnown() => Architectures().Contains(int.Parse(architecture.AsSpan(3), System.Globalization.CultureInfo.InvariantCulture));

    private string Newest()
    {
        int own = int.Parse(architecture.AsSpan(3), System.Globalization.CultureInfo.InvariantCulture);
        int[] older = [.. Architectures().Where(known => known < own)];
        if (older.Length == 0)
        {
            Throw.Usage($"cards of {architecture} are too old", $"NVRTC {Version().Major} compiles for {string.Join(", ", Architectures())}", "use --device cpu, or an older CUDA");
        }

        return $"compute_{older.Max()}";
    }

    private static int[] Architectures()
    {
        CudaErrors.CheckNvrtc(NvrtcApi.nvrtcGetNumSupportedArchs(out int count), "nvrtcGetNumSupportedArchs");
        int[] architectures = new int[count];
        fixed (int* pointer = architectures)
        {
            CudaErrors.CheckNvrtc(NvrtcApi.nvrtcGetSupportedArchs(pointer), "nvrtcGetSupportedArchs");
        }

        return architectures;
    }

    private string Key(string text, string[] options)
    {
        (int major, int minor) = Version();
        string all = string.Join('\0', [text, .. CudaSources.Headers.OrderBy(item => item.Key, StringComparer.Ordinal).Select(item => item.Value), .. options, $"{major}.{minor}", $"{driverVersion}"]);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(all)).AsSpan(0, 12));
    }

    // The file is a hash and the code: one that was damaged is compiled again.
    private static byte[]? ReadCached(string path)
    {
        try
        {
            byte[] bytes = File.ReadAllBytes(path);
            return bytes.Length > SHA256.HashSizeInBytes && SHA256.HashData(bytes.AsSpan(SHA256.HashSizeInBytes)).AsSpan().SequenceEqual(bytes.AsSpan(0, SHA256.HashSizeInBytes))
                ? bytes[SHA256.HashSizeInBytes..]
                : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static void WriteCached(string path, byte[] code)
    {
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            AtomicFile.WriteAllBytes(path, [.. SHA256.HashData(code), .. code]);
        }
        catch (Exception error) when (error is NibbleException or IOException or UnauthorizedAccessException)
        {
            // A cache that can't be written costs seconds at every start, nothing else; nibble doctor says so.
        }
    }

    private static byte[] CompileNow(string name, string text, string[] options)
    {
        using NativeStrings source = new([text, name]), headers = new(CudaSources.Headers.Values), names = new(CudaSources.Headers.Keys), arguments = new(options);
        CudaErrors.CheckNvrtc(
            NvrtcApi.nvrtcCreateProgram(out nint program, source.Pointers[0], source.Pointers[1], headers.Count, headers.Pointers, names.Pointers), "nvrtcCreateProgram");
        try
        {
            int result = NvrtcApi.nvrtcCompileProgram(program, arguments.Count, arguments.Pointers);
            CudaErrors.CheckNvrtc(result, $"compiling {name} for {options[0]}", result == 0 ? null : Log(program));
            return Code(program, ptx: options[0].Contains("compute_", StringComparison.Ordinal));
        }
        finally
        {
            NvrtcApi.nvrtcDestroyProgram(ref program);
        }
    }

    private static string Log(nint program)
    {
        NvrtcApi.nvrtcGetProgramLogSize(program, out nuint bytes);
        byte[] log = new byte[Math.Max(1, (int)bytes)];
        fixed (byte* pointer = log)
        {
            NvrtcApi.nvrtcGetProgramLog(program, pointer);
        }

        return Encoding.UTF8.GetString(log).TrimEnd('\0', '\n');
    }

    private static byte[] Code(nint program, bool ptx)
    {
        nuint bytes;
        CudaErrors.CheckNvrtc(ptx ? NvrtcApi.nvrtcGetPTXSize(program, out bytes) : NvrtcApi.nvrtcGetCUBINSize(program, out bytes), "nvrtcGetCUBINSize");
        byte[] code = new byte[(int)bytes];
        fixed (byte* pointer = code)
        {
            CudaErrors.CheckNvrtc(ptx ? NvrtcApi.nvrtcGetPTX(program, pointer) : NvrtcApi.nvrtcGetCUBIN(program, pointer), "nvrtcGetCUBIN");
        }

        return code;
    }
}
