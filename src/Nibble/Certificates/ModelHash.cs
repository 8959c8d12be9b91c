using System.Security.Cryptography;
using System.Text;
using Nibble.Formats;
using Nibble.Quantization.LowRank;

namespace Nibble.Certificates;

/// <summary>One hash of everything that makes a model: weights, configuration, tokenizer. Other files in its folder do not count.</summary>
public static class ModelHash
{
    private const int BufferBytes = 1 << 20;

    /// <summary>SHA-256, in hexadecimal, of a folder's model files (by name, with their lengths) or of a GGUF file.</summary>
    public static string Of(string path)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        string[] files = Directory.Exists(path) ? [.. Directory.EnumerateFiles(path).Where(IsPart).Concat(Repair(path)).Order(StringComparer.Ordinal)] : [path];
        byte[] buffer = new byte[BufferBytes];
        foreach (string file in files)
        {
            using FileStream stream = File.OpenRead(file);
            // A GGUF file may be renamed; the files of a folder may not.
            string name = Directory.Exists(path) ? Path.GetFileName(file) : string.Empty;
            hash.AppendData(Encoding.UTF8.GetBytes($"{name}\n{stream.Length}\n"));
            for (int read = stream.Read(buffer); read > 0; read = stream.Read(buffer))
            {
                hash.AppendData(buffer, 0, read);
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The files that hold a folder's weights, a repair included; a GGUF file is its own.</summary>
    internal static IEnumerable<string> WeightFiles(string path) =>
        Directory.Exists(path) ? Directory.EnumerateFiles(path).Concat(Repair(path)).Where(file => Path.GetExtension(file) == ".safetensors") : [path];

    private static string[] Repair(string path) =>
        Path.Combine(path, RepairFolder.Name) is var folder && Directory.Exists(folder) && RepairFolder.IsNamed(path) ? Directory.GetFiles(folder) : [];

    private static bool IsPart(string file)
    {
        string name = Path.GetFileName(file);
        return name is "config.json" or "quanto_qmap.json" || name.EndsWith(".safetensors", StringComparison.Ordinal) || name.EndsWith(".safetensors.index.json", StringComparison.Ordinal)
            || HfFolderWriter.TokenizerFiles.Contains(name);
    }
}
