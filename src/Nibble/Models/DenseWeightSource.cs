using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The weights of a dense model folder, kept in the dtype of the file or converted to another one.</summary>
public sealed class DenseWeightSource : IWeightSource
{
    private readonly HfFolder _folder;
    private readonly DType? _dtype;
    private readonly Dictionary<string, string> _stored = [];

    /// <summary>Reads from <paramref name="folder"/>, which it then owns; <paramref name="dtype"/> converts the matrices (null: as stored).</summary>
    public DenseWeightSource(HfFolder folder, IArchitecture architecture, DType? dtype = null)
    {
        _folder = folder;
        _dtype = dtype;
        foreach (string name in folder.Names)
        {
            if (architecture.Sanitize(name) is { } module && !_stored.TryAdd(module, name))
            {
                Throw.BadInput($"{folder.Path}: the tensors '{_stored[module]}' and '{name}' are the same parameter ({module})", remedy: "remove one of them");
            }
        }
    }

    /// <inheritdoc/>
    public string Source => _folder.Path;

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _stored.Keys;

    /// <summary>The name in the files of a tensor, or null if there is none of this name.</summary>
    internal string? StoredName(string name) => _stored.GetValueOrDefault(name);

    /// <inheritdoc/>
    public Shape? ShapeOf(string name)
    {
        if (!_stored.TryGetValue(name, out string? stored))
        {
            return null;
        }

        SafetensorsEntry entry = _folder.Entry(stored);
        return entry.Extents.Count <= Shape.MaxRank ? entry.Shape : null;
    }

    /// <inheritdoc/>
    public Tensor Tensor(string name) => _folder.LoadFinite(_stored[name]);

    /// <inheritdoc/>
    public string? Problem(LinearSpec spec) => ShapeOf(spec.WeightName) switch
    {
        null => $"{spec.WeightName}: missing, expected {spec.StoredShape}",
        _ when _folder.Entry(_stored[spec.WeightName]) is { DType: null or DType.I8 or DType.U8 or DType.I32 } entry => $"{spec.WeightName}: expected floating point numbers, found {entry.DTypeName}",
        { } shape when shape != spec.StoredShape => $"{spec.WeightName}: expected {spec.StoredShape}, found {shape}",
        _ => null,
    };

    /// <inheritdoc/>
    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        using Tensor matrix = Matrix(spec);
        if (spec.Ternary)
        {
            using TernaryWeight ternary = TernaryForm.Of(matrix);
            return backend.Prepare(ternary, ActivationType.Int8);
        }

        if (_dtype is { } dtype && dtype != matrix.DType)
        {
            using Tensor converted = matrix.To(dtype);
            return backend.Prepare(converted);
        }

        return backend.Prepare(matrix);
    }

    /// <summary>The matrix of a linear layer as <c>[out, in]</c> in the dtype of the file; the caller disposes it.</summary>
    public Tensor Matrix(LinearSpec spec)
    {
        Tensor stored = Tensor(spec.WeightName);
        if (!spec.StoredTransposed)
        {
            return stored;
        }

        using (stored)
        {
            return Transpose.Of(stored);
        }
    }

    /// <summary>Drops the pages of a linear layer's matrix from memory, once it is packed.</summary>
    public void DropPages(LinearSpec spec) => _folder.DropPages(_stored[spec.WeightName]);

    /// <inheritdoc/>
    public void Dispose() => _folder.Dispose();
}
