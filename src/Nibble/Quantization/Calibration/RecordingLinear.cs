using Nibble.Backends;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>A linear layer that shows its inputs to somebody before it computes.</summary>
/// <param name="inner">The layer; it stays the owner of its weight.</param>
/// <param name="seen">Called with the layer and x, F32 <c>[rows, in]</c>.</param>
internal sealed class RecordingLinear(ILinear inner, Action<ILinear, Tensor> seen) : ILinear
{
    /// <summary>The layer inside.</summary>
    public ILinear Inner => inner;

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        seen(inner, x);
        inner.Forward(x, y, pass);
    }

    public void Dispose() => inner.Dispose();
}
