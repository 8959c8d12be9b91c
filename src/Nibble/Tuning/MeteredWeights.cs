using System.Globalization;
using Nibble.Backends;
using Nibble.Backends.Metering;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>The weights that a config describes, as sizes only.</summary>
/// <param name="config">The model.</param>
/// <param name="architecture">Its family.</param>
/// <param name="dense">How dense matrices are kept.</param>
/// <param name="bits">Bits of a number in the blocks' matrices; null keeps them dense.</param>
internal sealed class MeteredWeights(ModelConfig config, IArchitecture architecture, DType dense, double? bits) : IWeightSource
{
    private readonly Dictionary<string, Shape> _shapes = architecture.Linears(config).Select(spec => (spec.WeightName, spec.StoredShape))
        .Concat(architecture.Vectors(config).Select(spec => (spec.Name, spec.Shape)))
        .ToDictionary(item => item.Item1, item => item.Item2);

    public string Source => "sizes";

    public IReadOnlyCollection<string> Names => _shapes.Keys;

    /// <summary>How they are kept, in words.</summary>
    public string Words => bits is { } quantized
        ? string.Create(CultureInfo.InvariantCulture, $"blocks {quantized:0.###} bits a number, the rest {dense}")
        : dense.ToString();

    public Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

    public Tensor Tensor(string name) => Tensors.Tensor.OnHost(_shapes[name], dense);

    public string? Problem(LinearSpec spec) => null;

    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        MeteredBackend metered = (MeteredBackend)backend;
        return spec.Role == LinearRole.Block && bits is { } quantized
            ? metered.Weight(spec.Out, spec.In, (nint)Math.Ceiling((double)spec.Out * spec.In * quantized / 8))
            : metered.Weight(spec.Out, spec.In, spec.Role == LinearRole.Classifier ? DType.F32 : dense);
    }

    public void Dispose()
    {
    }
}
