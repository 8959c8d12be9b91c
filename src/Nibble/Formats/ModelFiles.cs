using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>A tensor with NaN or infinity in it.</summary>
/// <param name="Name">The tensor.</param>
/// <param name="Element">The first such element.</param>
public sealed record NonFiniteTensor(string Name, long Element);

/// <summary>Looks into the weight files of whatever a path names: a model, an adapter folder, or one file.</summary>
public static class ModelFiles
{
    /// <summary>All tensors, sorted by name.</summary>
    public static IReadOnlyList<SafetensorsEntry> Entries(string path)
    {
        List<SafetensorsEntry> entries = [];
        if (GgufFile.Names(path) && !Directory.Exists(path))
        {
            using GgufFile file = GgufFile.Open(path);
            entries.AddRange(file.Tensors.Select(tensor => new SafetensorsEntry(tensor.Name, tensor.Type.ToString(), null, tensor.Extents, tensor.Offset, tensor.ByteLength)));
            return entries;
        }

        Visit(path, file => entries.AddRange(file.Entries.Values));
        return entries.OrderBy(entry => entry.Name, StringComparer.Ordinal).ToArray();
    }

    /// <summary>Reads every floating point tensor and lists those with NaN or infinity.</summary>
    public static IReadOnlyList<NonFiniteTensor> NonFinite(string path, CancellationToken cancellation = default)
    {
        List<NonFiniteTensor> found = [];
        if (GgufFile.Names(path) && !Directory.Exists(path))
        {
            using GgufFile file = GgufFile.Open(path);
            return file.NonFinite(cancellation);
        }

        Visit(path, file =>
        {
            foreach (SafetensorsEntry entry in file.Entries.Values.Where(entry => entry.DType is { } dtype && dtype.IsFloat() && entry.Extents.Count <= Shape.MaxRank))
            {
                cancellation.ThrowIfCancellationRequested();
                using Tensor tensor = file.Load(entry.Name);
                nint element = FiniteCheck.FirstNonFinite(tensor);
                if (element >= 0)
                {
                    found.Add(new NonFiniteTensor(entry.Name, element));
                }

                file.DropPages(entry.Name);
            }
        });
        return found;
    }

    private static void Visit(string path, Action<SafetensorsFile> visit)
    {
        string adapter = Path.Combine(path, "adapter_model.safetensors");
        bool isModel = Directory.Exists(path) && File.Exists(Path.Combine(path, "config.json"));
        if (isModel || !(File.Exists(path) || File.Exists(adapter)))
        {
            using HfFolder model = HfFolder.Open(path);
            foreach (SafetensorsFile shard in model.Shards)
            {
                visit(shard);
            }

            return;
        }

        using SafetensorsFile file = SafetensorsFile.Open(File.Exists(path) ? path : adapter);
        visit(file);
    }
}
