using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;

namespace Nibble.Tests.Cuda;

/// <summary>The sources of the CUDA kernels, compiled for this processor by g++ over <c>cuda-host-shim.h</c>.</summary>
internal static unsafe class HostKernels
{
    private static readonly Lock Gate = new();
    private static readonly Lazy<(nint Launch, string? Problem)> Library = new(Build);

    /// <summary>Why the kernels can't run here, or null.</summary>
    public static string? Problem => Library.Value.Problem;

    /// <summary>Runs a kernel to its end.</summary>
    public static void Launch(KernelName kernel, LaunchShape shape, ReadOnlySpan<KernelArgument> arguments, bool reverse)
    {
        var launch = (delegate* unmanaged<byte*, uint*, uint, uint, void**, int, nint>)Library.Value.Launch;
        uint* grid = stackalloc uint[3] { checked((uint)shape.X), (uint)shape.Y, 1 };
        void** addresses = stackalloc void*[arguments.Length];
        fixed (KernelArgument* first = arguments)
        fixed (byte* name = Encoding.UTF8.GetBytes(kernel.Symbol + '\0'))
        {
            KernelArgument.Addresses(first, arguments.Length, addresses);
            lock (Gate)
            {
                nint problem = launch(name, grid, (uint)shape.Threads, (uint)shape.SharedBytes, addresses, reverse ? 1 : 0);
                if (problem != 0)
                {
                    throw new InvalidOperationException($"{kernel.Name}, {shape}: {Marshal.PtrToStringUTF8(problem)}");
                }
            }
        }
    }

    private static (nint Launch, string? Problem) Build()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return (0, "the emulation of CUDA kernels is written for Linux on x86-64");
        }

        string shim = Path.Combine(TestData.Repository, "tests", "Nibble.Tests", "Cuda", "cuda-host-shim.h");
        string[] sources = [File.ReadAllText(shim), Program(), .. CudaSources.Headers.Values, .. CudaKernelNames.Sources.Select(CudaSources.Source)];
        string key = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\0', sources))).AsSpan(0, 8));
        string library = Path.Combine(Path.GetTempPath(), $"nibble-cuda-host-{Environment.UserName}-{key}.so");
        if (!File.Exists(library) && Compile(shim, library) is { } problem)
        {
            return (0, problem);
        }

        return (NativeLibrary.GetExport(NativeLibrary.Load(library), "nibble_launch"), null);
    }

    private static string? Compile(string shim, string library)
    {
        using TempFolder folder = new();
        foreach ((string name, string text) in CudaSources.Headers.Select(item => (item.Key, item.Value))
            .Concat(CudaKernelNames.Sources.Select(name => (name + ".cu", CudaSources.Source(name)))).Append(("host.cpp", Program())))
        {
            File.WriteAllText(Path.Combine(folder.Path, name), text);
        }

        string built = library + "." + Path.GetRandomFileName();
        ProcessStartInfo start = new("g++")
        {
            RedirectStandardError = true,
            WorkingDirectory = folder.Path,
            ArgumentList =
            {
                "-std=c++17", "-O1", "-ffp-contract=off", "-fno-stack-protector", "-fcf-protection=none", "-fPIC", "-shared", "-DNIBBLE_HOST", "-Wno-unknown-pragmas",
                "-I.", "-I" + Path.GetDirectoryName(shim), "-o", built, "host.cpp",
            },
        };
        try
        {
            using Process compiler = Process.Start(start)!;
            string errors = compiler.StandardError.ReadToEnd();
            compiler.WaitForExit();
            Assert.True(compiler.ExitCode == 0, $"g++ does not compile the kernels:\n{errors}");
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "no g++: it compiles the CUDA kernels for this processor (apt-get install g++)";
        }

        File.Move(built, library, overwrite: true);
        return null;
    }

    private static string Program()
    {
        StringBuilder text = new();
        foreach (string source in CudaKernelNames.Sources)
        {
            text.Append("#include \"").Append(source).AppendLine(".cu\"");
        }

        text.AppendLine("NibbleKernel nibble_kernels[] = {");
        foreach (KernelName kernel in CudaKernelNames.All)
        {
            text.Append("NIBBLE_ENTRY(").Append(kernel.Symbol).AppendLine("),");
        }

        return text.AppendLine("{ nullptr, nullptr } };").ToString();
    }
}
