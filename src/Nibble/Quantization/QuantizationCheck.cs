using System.Runtime.InteropServices;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>Reads a quantized folder back and compares its codes, its scales and the vectors that were divided with those that its report recorded.</summary>
public static class QuantizationCheck
{
    /// <summary>Checks every matrix of a folder that <see cref="Quantizer"/> wrote; returns their number.</summary>
    /// <exception cref="NibbleException">Some weights are missing or differ: all are listed.</exception>
    public static int Run(string path)
    {
        QuantizationReport report = QuantizedFolderWriter.ReadReport(path);
        HfFolder folder = HfFolder.Open(path);
        IArchitecture architecture = Registry.Architecture(folder.Config);
        using QuantizedWeightSource source = new(folder, architecture);
        Dictionary<string, LinearSpec> specs = architecture.Linears(folder.Config).ToDictionary(spec => spec.Path);
        string[] wrong = [.. report.Tensors.Where(tensor => !IsSame(source, specs.GetValueOrDefault(tensor.Path), tensor)).Select(tensor => tensor.Path)];
        if (wrong.Length > 0)
        {
            Throw.Failed(
                $"{path}: {wrong.Length} of {report.Tensors.Count} matrices do not read back as they were written: {string.Join(", ", wrong.Take(20))}",
                "the file was damaged or changed after it was written",
                "quantize the model again");
        }

        CheckVectors(path, folder, architecture, report.ChangedVectors ?? new Dictionary<string, string>());
        return report.Tensors.Count;
    }

    private static void CheckVectors(string path, HfFolder folder, IArchitecture architecture, IReadOnlyDictionary<string, string> expected)
    {
        Dictionary<string, string> stored = folder.Names.Where(name => architecture.Sanitize(name) is not null).ToDictionary(name => architecture.Sanitize(name)!);
        string[] wrong = [.. expected.Where(item => !IsSame(folder, stored.GetValueOrDefault(item.Key), item.Value)).Select(item => item.Key)];
        if (wrong.Length > 0)
        {
            Throw.Failed(
                $"{path}: {wrong.Length} of {expected.Count} norms and biases do not read back as they were written: {string.Join(", ", wrong.Take(20))}",
                "they carry the other half of the factors in the matrices behind them, and the file was damaged or changed",
                "quantize the model again");
        }
    }

    private static bool IsSame(HfFolder folder, string? name, string digest)
    {
        if (name is null || folder.Entry(name).DType != DType.F32)
        {
            return false;
        }

        using Tensor bytes = folder.LoadBytes(name);
        return WeightDigest.Of(MemoryMarshal.Cast<byte, float>(bytes.HostSpan<byte>())) == digest;
    }

    private static bool IsSame(QuantizedWeightSource source, LinearSpec? spec, QuantizedTensorReport tensor)
    {
        if (spec is null || !source.IsQuantized(spec))
        {
            return false;
        }

        using QuantizedWeight weight = source.Read(spec);
        using LowRankPair? repair = source.ReadRepair(spec);
        return (repair is null ? WeightDigest.Of(weight) : repair.Digest(WeightDigest.Of(weight))) == tensor.Digest;
    }
}
