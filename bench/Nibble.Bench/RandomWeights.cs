using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Bench;

/// <summary>Random weights of any configuration: speeds do not depend on what the numbers are.</summary>
internal sealed class RandomWeights(ModelConfig config, IArchitecture architecture, DType dtype) : IWeightSource
{
    private readonly Dictionary<string, Shape> _shapes = architecture.Linears(config).Select(spec => (spec.WeightName, spec.StoredShape))
        .Concat(architecture.Vectors(config).Select(spec => (spec.Name, spec.Shape)))
        .ToDictionary(item => item.Item1, item => item.Item2);

    /// <summary>Packs a matrix in another way than dense, or null.</summary>
    public Func<LinearSpec, Tensor, IBackend, IPackedWeight>? Quantize { get; init; }

    public string Source => "random weights";

    public IReadOnlyCollection<string> Names => _shapes.Keys;

    public Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

    public Tensor Tensor(string name) => Random(_shapes[name], name);

    public string? Problem(LinearSpec spec) => null;

    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        using Tensor floats = Random(new Shape(spec.Out, spec.In), spec.Path);
        if (Quantize is not null)
        {
            return Quantize(spec, floats, backend);
        }

        using Tensor matrix = floats.To(dtype);
        return backend.Prepare(matrix);
    }

    public void Dispose()
    {
    }

    private static Tensor Random(Shape shape, string name)
    {
        Tensor tensor = Tensors.Tensor.OnHost(shape, DType.F32);
        ulong key = CounterRandom.Key(name), counter = 0;
        foreach (ref float value in tensor.HostSpan<float>())
        {
            value = (float)(0.1 * (CounterRandom.Uniform(key, counter++) - 0.5));
        }

        return tensor;
    }
}
