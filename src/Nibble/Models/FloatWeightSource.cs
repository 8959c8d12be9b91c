using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>A weight source whose dense tensors come as F32, which is what full fine-tuning trains.</summary>
/// <param name="inner">The source, which this one then owns; its linear layers must already come as F32.</param>
internal sealed class FloatWeightSource(IWeightSource inner) : IWeightSource
{
    public string Source => inner.Source;

    public IReadOnlyCollection<string> Names => inner.Names;

    public Shape? ShapeOf(string name) => inner.ShapeOf(name);

    public Tensor Tensor(string name)
    {
        using Tensor stored = inner.Tensor(name);
        return stored.To(DType.F32);
    }

    public string? Problem(LinearSpec spec) => inner.Problem(spec);

    public IPackedWeight Linear(LinearSpec spec, IBackend backend) => inner.Linear(spec, backend);

    public void Dispose() => inner.Dispose();
}
