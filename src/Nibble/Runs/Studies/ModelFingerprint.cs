using System.Security.Cryptography;
using System.Text;
using Nibble.Formats;
using Nibble.Quantization.LowRank;

namespace Nibble.Runs.Studies;

/// <summary>
/// Tells whether what a study reads is still the same: names, times and samples of all files. Hashing gigabytes of weights would take longer
/// than many a cell.
/// </summary>
internal static class ModelFingerprint
{
    // A row of a text may change alone, so texts are read whole up to here: half a second.
    private const long MostWholeText = 256 << 20;

    /// <summary>A model's or an adapter's folder with its repair, or one file. Other folders inside are no part of a model.</summary>
    public static string Of(string path)
    {
        string repair = Path.Combine(path, RepairFolder.Name);
        return Hash([.. Files(path, SearchOption.TopDirectoryOnly), .. Directory.Exists(repair) ? Files(repair, SearchOption.TopDirectoryOnly) : []], file => FileSample.WithTime(file));
    }

    /// <summary>A file of texts, or a folder with all that it holds.</summary>
    public static string OfData(string path) =>
        Hash(Files(path, SearchOption.AllDirectories), file => $"{Path.GetRelativePath(path, file)} {FileSample.WithTime(file, MostWholeText)}");

    private static string[] Files(string path, SearchOption depth) =>
        Directory.Exists(path) ? [.. Directory.EnumerateFiles(path, "*", depth).Order(StringComparer.Ordinal)] : [path];

    private static string Hash(IEnumerable<string> files, Func<string, string> sample) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', files.Select(sample)))));
}
