using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Quantization;

/// <summary>Reads a quantized folder back and compares its codes and scales with those that its report recorded.</summary>
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

        return report.Tensors.Count;
    }

    private static bool IsSame(QuantizedWeightSource source, LinearSpec? spec, QuantizedTensorReport tensor)
    {
        if (spec is null || !source.IsQuantized(spec))
        {
            return false;
        }

        using QuantizedWeight weight = source.Read(spec);
        return WeightDigest.Of(weight) == tensor.Digest;
    }
}
