using Nibble.Backends;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// The numbers with which a training from scratch starts, as transformers starts it: matrices and embeddings normal with the deviation of
/// <c>initializer_range</c>, GPT-2's layers that add to the residual stream smaller by √(2·layers) (GPT-2, section 2.3), norms 1, biases 0.
/// A number depends on seed, name and place alone.
/// </summary>
internal sealed class FreshWeightSource(ModelConfig config, IArchitecture architecture, DType dtype, int seed) : IWeightSource
{
    private readonly double _deviation = config.Text.GetDouble("initializer_range", 0.02, 0);
    private readonly double _residual = 1 / Math.Sqrt(2.0 * architecture.Facts(config).Layers);
    private readonly Dictionary<string, Shape> _shapes = architecture.Linears(config).Select(spec => (spec.WeightName, spec.StoredShape))
        .Concat(architecture.Vectors(config).Select(spec => (spec.Name, spec.Shape)))
        .ToDictionary(item => item.Item1, item => item.Item2);

    public string Source => "random numbers";

    public IReadOnlyCollection<string> Names => _shapes.Keys;

    public Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

    public Tensor Tensor(string name)
    {
        Shape shape = _shapes[name];
        if (shape.Rank > 1)
        {
            return Normal(shape, name, _deviation);
        }

        Tensor vector = Tensors.Tensor.OnHost(shape, DType.F32);
        vector.HostSpan<float>().Fill(name.EndsWith(".weight", StringComparison.Ordinal) ? 1 : 0);
        return vector;
    }

    public string? Problem(LinearSpec spec) => null;

    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        bool adds = spec.Role == LinearRole.Block && spec.Path.EndsWith(".c_proj", StringComparison.Ordinal);
        using Tensor floats = Normal(new Shape(spec.Out, spec.In), spec.Path, adds ? _deviation * _residual : _deviation);
        using Tensor matrix = floats.To(dtype);
        return backend.Prepare(matrix);
    }

    public void Dispose()
    {
    }

    private Tensor Normal(Shape shape, string name, double deviation)
    {
        Tensor tensor = Tensors.Tensor.OnHost(shape, DType.F32);
        ulong key = CounterRandom.Key((ulong)seed, CounterRandom.Key(name));
        Span<float> values = tensor.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(deviation * CounterRandom.Normal(key, (ulong)i));
        }

        return tensor;
    }
}
