using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>The tensors of one module of a quantized checkpoint, with checks whose messages name file, tensor and both shapes.</summary>
/// <param name="Folder">The checkpoint.</param>
/// <param name="Section">Its <c>quantization_config</c>.</param>
/// <param name="Module">The module's path as stored.</param>
public sealed record LayoutReader(HfFolder Folder, JsonConfig Section, string Module)
{
    /// <summary>True if the module has this tensor.</summary>
    public bool Has(string suffix) => Folder.Contains(Module + suffix);

    /// <summary>The header's entry of a tensor that must exist.</summary>
    public SafetensorsEntry Entry(string suffix) => Folder.Entry(Module + suffix);

    /// <summary>The rows of a tensor that must exist and have some.</summary>
    public long Rows(string suffix)
    {
        if (Entry(suffix).Extents is not [long rows, ..])
        {
            Refuse(suffix, "it is a single number");
            return 0;
        }

        return rows;
    }

    /// <summary>A tensor as it is stored; a view, to be disposed.</summary>
    public Tensor Load(string suffix) => Folder.Load(Module + suffix);

    /// <summary>The bytes of a tensor of any type; a view, to be disposed.</summary>
    public Tensor LoadBytes(string suffix) => Folder.LoadBytes(Module + suffix);

    /// <summary>A tensor of F32, F16 or BF16 as finite numbers.</summary>
    public float[] Floats(string suffix, nint count)
    {
        using Tensor stored = Folder.LoadFinite(Module + suffix);
        if (!stored.DType.IsFloat() || stored.Shape.Count != count)
        {
            Refuse(suffix, $"expected {count:N0} floating point numbers, found {stored.DType} {stored.Shape}");
        }

        using Tensor floats = stored.To(DType.F32);
        return floats.HostSpan<float>().ToArray();
    }

    /// <summary>The dtype of a tensor of scales.</summary>
    public DType FloatType(string suffix)
    {
        DType? dtype = Entry(suffix).DType;
        if (dtype is not { } known || !known.IsFloat())
        {
            Refuse(suffix, $"expected F32, F16 or BF16, found {Entry(suffix).DTypeName}");
            return default;
        }

        return known;
    }

    /// <summary>Differences between the tensors that a layout expects and those that are there; empty if there are none.</summary>
    public IEnumerable<string> Problems(IReadOnlyList<StoredTensor> expected)
    {
        foreach (StoredTensor tensor in expected)
        {
            string name = Module + tensor.Suffix, wanted = $"{tensor.DTypeName} [{string.Join(", ", tensor.Extents)}]";
            if (!Folder.Contains(name))
            {
                yield return $"{name}: missing, expected {wanted}";
            }
            else if (!tensor.Loose && (Folder.Entry(name).DTypeName != tensor.DTypeName || !Folder.Entry(name).Extents.SequenceEqual(tensor.Extents)))
            {
                yield return $"{name}: expected {wanted}, found {Folder.Entry(name).DTypeName} {Folder.Entry(name).ShapeText}";
            }
        }
    }

    /// <summary>Refuses a module whose tensors are not those that the layout expects.</summary>
    public void Check(IReadOnlyList<StoredTensor> expected)
    {
        string[] problems = [.. Problems(expected)];
        if (problems.Length > 0)
        {
            Throw.BadInput(
                $"{Folder.Path}: {string.Join("; ", problems)}",
                "quantization_config and the tensors describe different weights, or the download is incomplete",
                "download the model again, or quantize it again");
        }
    }

    /// <summary>Refuses one tensor.</summary>
    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    public void Refuse(string suffix, string why) =>
        Throw.BadInput($"{Folder.Path}: tensor '{Module}{suffix}' cannot be read", why, "download the model again, or quantize it again");
}
