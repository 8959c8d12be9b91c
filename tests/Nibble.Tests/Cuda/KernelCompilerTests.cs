using System.Text;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.IO;

namespace Nibble.Tests.Cuda;

/// <summary>The sources through NVIDIA's own compiler, where one is: no card is needed for that.</summary>
public class KernelCompilerTests
{
    public static TheoryData<string, string> Sources
    {
        get
        {
            TheoryData<string, string> cases = [];
            foreach (string source in CudaKernelNames.Sources)
            {
                cases.Add(source, "sm_90");
            }

            cases.Add("rows", "sm_80");
            cases.Add("codebook", "sm_80");
            return cases;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Sources))]
    public void EverySourceCompilesAndHoldsItsKernels(string source, string architecture)
    {
        RequireCompiler();
        using TempFolder cache = new();
        byte[] code = new KernelCompiler(architecture, 0, cache.Path).Compile(source);
        string names = Encoding.Latin1.GetString(code);
        Assert.All(CudaKernelNames.All.Where(kernel => kernel.Source == source), kernel => Assert.Contains($".text.{kernel.Symbol}\0", names, StringComparison.Ordinal));
        // What a launch may ask for without saying so counts on it: 48 KiB less CudaDevice's 32, and, with 9.0, 1 KiB of the card's own.
        Assert.All(SharedBytes(code), own => Assert.InRange(own.Value, 0, own.Key.Contains("nibble_few", StringComparison.Ordinal) ? TensorProducts.OwnShared : 17 << 10));
    }

    // Sections .nv.shared.KERNEL of a file in ELF: what a kernel has without asking.
    private static Dictionary<string, long> SharedBytes(byte[] elf)
    {
        int first = (int)BitConverter.ToInt64(elf, 0x28), size = BitConverter.ToInt16(elf, 0x3A), count = BitConverter.ToInt16(elf, 0x3C), ofNames = BitConverter.ToInt16(elf, 0x3E);
        int names = (int)BitConverter.ToInt64(elf, first + (ofNames * size) + 0x18);
        return Enumerable.Range(0, count).Select(i => first + (i * size)).Select(at => (Name: Text(names + BitConverter.ToInt32(elf, at)), Bytes: BitConverter.ToInt64(elf, at + 0x20)))
            .Where(section => section.Name.StartsWith(".nv.shared.", StringComparison.Ordinal)).ToDictionary(section => section.Name, section => section.Bytes);

        string Text(int at) => Encoding.Latin1.GetString(elf, at, Array.IndexOf(elf, (byte)0, at) - at);
    }

    [SkippableFact]
    public void CompiledKernelsAreKeptAndDamagedOnesMadeAgain()
    {
        RequireCompiler();
        using TempFolder cache = new();
        KernelCompiler compiler = new("sm_90", 0, cache.Path);
        byte[] code = compiler.Compile("int8");
        string file = Assert.Single(Directory.GetFiles(cache.Path));
        byte[] kept = File.ReadAllBytes(file);
        Assert.Equal(code, compiler.Compile("int8"));
        File.WriteAllBytes(file, kept[..^5]);
        Assert.Equal(code, compiler.Compile("int8"));
        Assert.Equal(kept, File.ReadAllBytes(file));
        new KernelCompiler("sm_90", 12080, cache.Path).Compile("int8");
        Assert.Equal(2, Directory.GetFiles(cache.Path).Length);
    }

    [SkippableFact]
    public void WithoutADriverTheDeviceExplainsItself()
    {
        Skip.If(CudaCards.Problem() is null, "an NVIDIA card is here");
        NibbleException error = Assert.Throws<NibbleException>(() => BackendKind.Create("cuda"));
        Assert.Contains("--device cpu", error.Message, StringComparison.Ordinal);
        Assert.Contains(Diagnosis.Run(), finding => finding.Check == "gpu" && finding.State == FindingState.Limited);
    }

    [Theory]
    [InlineData("tpu")]
    [InlineData("cuda:x")]
    [InlineData("cuda:-1")]
    [InlineData("cpu:0")]
    [InlineData("")]
    public void UnknownDevicesAreRefused(string device)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => BackendKind.Create(device));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("not available", error.Message, StringComparison.Ordinal);
    }

    private static void RequireCompiler() =>
        Skip.If(!KernelCompiler.IsAvailable, $"no NVRTC ({string.Join(", ", CudaLibraries.Nvrtc.Names)}): for example libnvrtc11.2 of Debian's component non-free; {CudaLibraries.FoldersVariable} names its folder");
}
