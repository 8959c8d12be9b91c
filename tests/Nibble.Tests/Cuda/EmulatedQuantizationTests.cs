using System.Security.Cryptography;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;
using Nibble.Tests.Quantization;

namespace Nibble.Tests.Cuda;

/// <summary><c>nibble quantize --device cuda</c> with the kernels compiled for this processor: what stands in the folder, block by block.</summary>
public sealed class EmulatedQuantizationTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _source;

    public EmulatedQuantizationTests() => _source = MethodTable.WriteModel(Path.Combine(_folder.Path, "model"), "llama", blocks: 2);

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [InlineData("nf4", null)]
    [InlineData("rtn", 3)]
    public void DataFreeMethodsWriteTheProcessorsFolder(string method, int? bits)
    {
        PlanRequest request = new(new QuantizationSettings { Method = method, Bits = bits });
        Assert.Equal(Hashes(Run("cpu", request, new QuantizerOptions())), Hashes(Run("card", request, Card())));
    }

    [SkippableTheory]
    [InlineData("gptq", DType.F32)]
    [InlineData("gptq", DType.BF16)]
    [InlineData("awq", DType.F32)]
    [InlineData("nf4", DType.F32)]
    [InlineData("nf4", DType.BF16)]
    public void CalibratedMethodsAreNearTheProcessors(string method, DType states)
    {
        PlanRequest request = new(method == "nf4"
            ? new QuantizationSettings { Method = method, BlockSize = 32, DoubleQuant = true, Compensate = true }
            : new QuantizationSettings { Method = method, Bits = 4, GroupSize = 32 });
        QuantizationReport cpu = Report(Run("cpu", request, Calibrated(new QuantizerOptions(), states)));
        QuantizationReport card = Report(Run("card", request, Calibrated(Card(), states)));
        Assert.Equal(cpu.Tensors.Select(tensor => tensor.Path), card.Tensors.Select(tensor => tensor.Path));
        Assert.Equal(cpu.Calibration!.Coverage.Select(layer => layer.Tokens), card.Calibration!.Coverage.Select(layer => layer.Tokens));
        // NF4 takes columns by falling energy: sums in another order let near ones change places, which matters in matrices as small as these.
        double tolerance = method == "nf4" ? 0.06 : 0.03;
        Assert.All(cpu.Tensors.Zip(card.Tensors), pair => Assert.InRange(pair.Second.RelativeError / pair.First.RelativeError, 1 - tolerance, 1 + tolerance));
        Assert.InRange(card.RelativeError / cpu.RelativeError, 1 - (tolerance / 3), 1 + (tolerance / 3));
    }

    [SkippableFact]
    public void AnInterruptedRunEndsWithTheSameBytes()
    {
        PlanRequest request = new(new QuantizationSettings { Method = "gptq", Bits = 3, GroupSize = 32, ActOrder = true });
        QuantizerOptions options = Calibrated(Card(), DType.BF16);
        string[] whole = Hashes(Run("whole", request, options));
        using CancellationTokenSource stop = new();
        int blocks = 0;
        Assert.Throws<WorkInterruptedException>(() => Quantizer.Run(_source, Path.Combine(_folder.Path, "stopped"), request, options, step => Stop(step, ref blocks, stop), stop.Token));
        Assert.Equal(whole, Hashes(Run("stopped", request, options)));
    }

    private static void Stop(QuantizationStep step, ref int matrices, CancellationTokenSource stop)
    {
        // Somewhere in the second block.
        if (++matrices == 10)
        {
            stop.Cancel();
        }
    }

    private static QuantizerOptions Card()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        return new QuantizerOptions { Backend = compute => new CudaBackend(new EmulatedDevice(), compute) };
    }

    private static QuantizerOptions Calibrated(QuantizerOptions options, DType states) => options with { Calibration = new CalibrationRequest("demo") { Samples = 2, Length = 48, States = states } };

    private string Run(string name, PlanRequest request, QuantizerOptions options)
    {
        string output = Path.Combine(_folder.Path, name);
        Quantizer.Run(_source, output, request, options);
        return output;
    }

    private static QuantizationReport Report(string folder) => QuantizedFolderWriter.ReadReport(folder);

    private static string[] Hashes(string folder) =>
        [.. Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(file => Path.GetFileName(file) + " " + Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file))))];
}
