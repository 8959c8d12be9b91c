using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Benchmarks;

/// <summary>Random weights of any configuration: speeds do not depend on what the numbers are.</summary>
internal sealed class RandomWeights(ModelConfig config, IArchitecture architecture, DType dtype) : IWeightSource
{
    private static readonly float[] Pattern = CreatePattern();

    private readonly Dictionary<string, Shape> _shapes = architecture.Linears(config).Select(spec => (spec.WeightName, spec.StoredShape))
        .Concat(architecture.Vectors(config).Select(spec => (spec.Name, spec.Shape)))
        .ToDictionary(item => item.Item1, item => item.Item2);

    /// <summary>Packs a matrix in another way than dense, or null.</summary>
    public Func<LinearSpec, Tensor, IBackend, IPackedWeight>? Quantize { get; init; }

    /// <summary>Changes a vector by its name, or null.</summary>
    public Action<string, Tensor>? Change { get; init; }

    public string Source => "random weights";

    public IReadOnlyCollection<string> Names => _shapes.Keys;

    public Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

    public Tensor Tensor(string name)
    {
        Tensor vector = Random(_shapes[name], name);
        Change?.Invoke(name, vector);
        return vector;
    }

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

    // A prime length, so that the rows of a matrix are not copies of each other.
    private static float[] CreatePattern()
    {
        const int length = 65_537;
        ulong key = CounterRandom.Key("random weights");
        return [.. Enumerable.Range(0, length).Select(i => (float)(0.1 * (CounterRandom.Uniform(key, (ulong)i) - 0.5)))];
    }

    private static Tensor Random(Shape shape, string name)
    {
        Tensor tensor = Tensors.Tensor.OnHost(shape, DType.F32);
        Span<float> rest = tensor.HostSpan<float>();
        for (int start = (int)(CounterRandom.Key(name) % (ulong)Pattern.Length); !rest.IsEmpty; start = 0)
        {
            int count = Math.Min(rest.Length, Pattern.Length - start);
            Pattern.AsSpan(start, count).CopyTo(rest);
            rest = rest[count..];
        }

        return tensor;
    }
}
