using Nibble.Backends;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>A weight source that gives a classification head where the checkpoint has none: normal numbers, as transformers starts it.</summary>
/// <param name="inner">The source, which this one then owns.</param>
/// <param name="seed">Seed of the head.</param>
/// <param name="deviation">Their standard deviation (<c>initializer_range</c>).</param>
internal sealed class FreshHeadSource(IWeightSource inner, int seed, double deviation) : IWeightSource
{
    public string Source => inner.Source;

    /// <summary>The source below.</summary>
    public IWeightSource Inner => inner;

    public IReadOnlyCollection<string> Names => inner.Names;

    public Shape? ShapeOf(string name) => inner.ShapeOf(name);

    public Tensor Tensor(string name) => inner.Tensor(name);

    public string? Problem(LinearSpec spec) => IsFresh(spec) ? null : inner.Problem(spec);

    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        if (!IsFresh(spec))
        {
            return inner.Linear(spec, backend);
        }

        using Tensor head = Tensors.Tensor.OnHost(new Shape(spec.Out, spec.In), DType.F32);
        ulong key = CounterRandom.Key((ulong)seed, CounterRandom.Key(spec.Path));
        Span<float> values = head.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(deviation * CounterRandom.Normal(key, (ulong)i));
        }

        return backend.Prepare(head);
    }

    RepairTerm? IWeightSource.Repair(LinearSpec spec, IBackend backend) => inner.Repair(spec, backend);

    StaticActivations? IWeightSource.Activations(LinearSpec spec) => inner.Activations(spec);

    public void Dispose() => inner.Dispose();

    private bool IsFresh(LinearSpec spec) => spec.Role == LinearRole.Classifier && inner.ShapeOf(spec.WeightName) is null;
}
