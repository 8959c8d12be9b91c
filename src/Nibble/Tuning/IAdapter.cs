using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Trainable weights beside a frozen base.</summary>
public interface IAdapter : IDisposable
{
    /// <summary>Bytes of its weights.</summary>
    long ByteLength { get; }

    /// <summary>Puts itself around the layers of a model; must outlive it.</summary>
    void Attach(CausalModel model);

    /// <summary>Adds everything that is trained.</summary>
    void AddTo(ParameterSet parameters);

    /// <summary>Writes PEFT's two files into an existing folder.</summary>
    void Save(string folder);

    /// <summary>Must be called when its numbers have changed outside of a training pass, before the model runs again.</summary>
    void Refresh();

    /// <summary>Makes the matrix of a layer, F32 <c>[out, in]</c> on the host, do what layer and adapter do together, for merging.</summary>
    void AddDelta(LinearSpec linear, Tensor matrix);

    /// <summary>The same for the layer's bias, F32 <c>[out]</c>; most adapters leave it alone.</summary>
    void MergeBias(LinearSpec linear, Tensor bias);
}

/// <summary>The weights file of an adapter.</summary>
internal static class AdapterFile
{
    public static SafetensorsFile Open(string folder)
    {
        string path = Path.Combine(folder, PeftConfig.WeightsName);
        if (!File.Exists(path) && File.Exists(Path.Combine(folder, "adapter_model.bin")))
        {
            Throw.BadInput($"{folder} has its weights only as adapter_model.bin", "that is a pickle, which can run code when it is read", "save the adapter again with safe_serialization=True");
        }

        return SafetensorsFile.Open(path);
    }

    /// <summary>Refuses a file whose tensors are not exactly the expected ones, listing all differences.</summary>
    public static void Check(SafetensorsFile file, IEnumerable<TensorSpec> expected)
    {
        List<string> problems = [];
        HashSet<string> known = [];
        foreach (TensorSpec spec in expected)
        {
            known.Add(spec.Name);
            if (!file.Entries.TryGetValue(spec.Name, out SafetensorsEntry? entry))
            {
                problems.Add($"{spec.Name}: missing, expected {spec.Shape}");
            }
            else if (entry.Extents.Count > Shape.MaxRank || entry.Shape != spec.Shape)
            {
                problems.Add($"{spec.Name}: expected {spec.Shape}, found {entry.ShapeText}");
            }
        }

        problems.AddRange(file.Entries.Keys.Where(name => !known.Contains(name)).Select(name => $"{name}: expected none, found {file.Entries[name].ShapeText}"));

        if (problems.Count > 0)
        {
            Throw.BadInput(
                $"{file.Path}: {problems.Count:N0} tensors do not fit this base and {PeftConfig.FileName}: {string.Join("; ", problems)}",
                "the adapter belongs to another base model, or its config is another one's",
                "use the base that base_model_name_or_path names");
        }
    }

    /// <summary>A tensor as F32 on the host, without NaN or infinity; the caller disposes it.</summary>
    public static Tensor Floats(SafetensorsFile file, string name)
    {
        using Tensor stored = file.Load(name);
        FiniteCheck.Require(stored, name, file.Path);
        return stored.To(DType.F32);
    }
}
