using System.Reflection;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>A hash of everything that decides about the bytes of a calibrated quantization.</summary>
internal static class JournalKey
{
    /// <summary>The key: program, kernels, plan, samples, dtype of hidden states, and every byte of the model's weights and config.</summary>
    public static string Of(string model, QuantPlan plan, IReadOnlyList<int[]> samples, DType states, string kernels)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        // The module's id changes with every build of other sources.
        Assembly assembly = typeof(JournalKey).Assembly;
        string text = $"{assembly.ManifestModule.ModuleVersionId} {kernels} {states} {plan.Layout.Name} {DocumentJson.Text(plan.ToDocument(), DocumentJson.Plain)}";
        hash.AppendData(Encoding.UTF8.GetBytes(text));
        foreach (int[] sample in samples)
        {
            hash.AppendData(BitConverter.GetBytes(sample.Length));
            hash.AppendData(MemoryMarshal.AsBytes(sample.AsSpan()));
        }

        foreach ((string name, byte[] content) in Directory.EnumerateFiles(model).Where(IsInput).Order(StringComparer.Ordinal).ToArray().AsParallel().AsOrdered().Select(HashOf))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(name));
            hash.AppendData(content);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static (string Name, byte[] Content) HashOf(string file)
    {
        using FileStream stream = File.OpenRead(file);
        return ($"{Path.GetFileName(file)} {stream.Length}", SHA256.HashData(stream));
    }

    private static bool IsInput(string path) => Path.GetExtension(path) == ".safetensors" || Path.GetFileName(path) == "config.json";
}
