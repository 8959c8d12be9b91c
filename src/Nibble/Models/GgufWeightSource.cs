using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// The weights of a GGUF file. Types of blocks become quantized weights with the same codes and scales, so the model runs on them
/// as they are; F32, F16 and BF16 stay what they are.
/// </summary>
public sealed class GgufWeightSource : IWeightSource
{
    private readonly GgufFile _file;
    private readonly ModelConfig _config;
    private readonly DType? _dtype;
    private readonly ActivationChoice _activations;
    private readonly int _heads, _keyHeads;
    private readonly Dictionary<string, GgufTensor> _tensors = new(StringComparer.Ordinal);

    /// <summary>Reads from <paramref name="file"/>, which it then owns.</summary>
    /// <param name="file">The file.</param>
    /// <param name="config">The config that its metadata amounts to.</param>
    /// <param name="dtype">Dtype of matrices that are not quantized; null as stored.</param>
    /// <param name="activations">In which numbers products read their activations.</param>
    public GgufWeightSource(GgufFile file, ModelConfig config, DType? dtype = null, ActivationChoice activations = ActivationChoice.F32)
    {
        (_file, _config, _dtype, _activations) = (file, config, dtype, activations);
        IArchitecture architecture = Registry.Architecture(config);
        ModelFacts facts = architecture.Facts(config);
        (_heads, _keyHeads) = (facts.Heads, facts.KvHeads);
        IEnumerable<string> names = architecture.Linears(config).SelectMany(spec => new[] { spec.WeightName, spec.BiasName })
            .Concat(architecture.Vectors(config).Select(spec => spec.Name));
        foreach (string name in names)
        {
            if (GgufNames.Of(config.ModelType, name) is { } stored && file.Find(stored) is { } entry)
            {
                _tensors[name] = entry;
            }
        }
    }

    /// <inheritdoc/>
    public string Source => _file.Path;

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>Tensors of the file that no layer takes.</summary>
    public IEnumerable<string> Unused => _file.Tensors.Select(tensor => tensor.Name).Except(_tensors.Values.Select(tensor => tensor.Name)).Except(["rope_freqs.weight"]);

    /// <inheritdoc/>
    public Shape? ShapeOf(string name) => _tensors.GetValueOrDefault(name)?.Shape;

    /// <inheritdoc/>
    public Tensor Tensor(string name)
    {
        GgufTensor entry = _tensors[name];
        Tensor tensor = _file.Load(entry.Name);
        int heads = Heads(entry);
        if (heads == 0)
        {
            return tensor;
        }

        using (tensor)
        {
            return Rows(tensor, heads);
        }
    }

    /// <inheritdoc/>
    public string? Problem(LinearSpec spec)
    {
        // Also the matrices that a checkpoint stores as [in, out] stand as [out, in] here.
        Shape expected = new(spec.Out, spec.In);
        return _tensors.GetValueOrDefault(spec.WeightName) switch
        {
            null => $"{GgufNames.Of(_config.ModelType, spec.WeightName) ?? spec.WeightName}: missing, expected {expected}",
            { } entry when entry.Shape != expected => $"{entry.Name}: expected {expected}, found {entry.Shape}",
            { } entry when GgufCodec.Find(entry.Type) is null => $"{entry.Name}: type {entry.Type} is not supported (supported are {string.Join(", ", GgufCodec.Readable)})",
            _ => null,
        };
    }

    /// <inheritdoc/>
    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        using QuantizedWeight? weight = Quantized(spec);
        if (weight is not null)
        {
            return WeightPacking.Pack(weight, spec, backend, _activations);
        }

        using Tensor matrix = Tensor(spec.WeightName);
        if (_dtype is { } dtype && dtype != matrix.DType)
        {
            using Tensor converted = matrix.To(dtype);
            return backend.Prepare(converted);
        }

        return backend.Prepare(matrix);
    }

    /// <summary>The quantized weight of a matrix, or null if it is stored as plain numbers; the caller disposes it.</summary>
    public QuantizedWeight? Quantized(LinearSpec spec)
    {
        GgufTensor entry = _tensors[spec.WeightName];
        int heads = Heads(entry);
        QuantizedWeight? weight = GgufCodec.Require(entry.Type, $"{_file.Path}: tensor '{entry.Name}'")
            .Weight(spec.Out, spec.In, row => _file.Row(entry, GgufNames.StoredRow(row, spec.Out, heads)));
        float[] numbers = weight switch
        {
            AffineWeight affine => [.. affine.Scales, .. affine.Offsets],
            CodebookWeight codebook => codebook.Absmax,
            _ => [],
        };
        if (!Array.TrueForAll(numbers, float.IsFinite))
        {
            weight!.Dispose();
            Throw.BadInput($"{_file.Path}: tensor '{entry.Name}' has a scale that is not finite", "the file is damaged, or a scale did not fit half precision when it was written", "download or convert it again");
        }

        if (weight is not null)
        {
            _file.DropPages(entry);
        }

        return weight;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static unsafe Tensor Rows(Tensor stored, int heads)
    {
        Tensor tensor = Tensors.Tensor.OnHost(stored.Shape, stored.DType);
        nint rows = stored.Shape[0], bytes = stored.ByteLength / rows;
        for (nint row = 0; row < rows; row++)
        {
            Buffer.MemoryCopy(stored.HostPointer + (GgufNames.StoredRow(row, rows, heads) * bytes), tensor.HostPointer + (row * bytes), bytes, bytes);
        }

        return tensor;
    }

    private int Heads(GgufTensor entry) => GgufNames.PermutedHeads(_config.ModelType, entry.Name, _heads, _keyHeads);
}
