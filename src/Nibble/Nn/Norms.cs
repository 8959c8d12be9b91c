using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>A normalization over the last dimension; y may be x. Its tensors belong to the model.</summary>
public interface INorm
{
    /// <summary>What kernels that normalize by themselves must know; kind None if they can't.</summary>
    internal InputNorm Input => default;

    /// <summary>x to y, both F32 <c>[rows, columns]</c>.</summary>
    void Forward(Tensor x, Tensor y, in Pass pass);
}

/// <summary>LayerNorm (arXiv 1607.06450).</summary>
/// <param name="weight">F32 <c>[columns]</c>.</param>
/// <param name="bias">F32 <c>[columns]</c>.</param>
/// <param name="epsilon">Added to the variance.</param>
public sealed class LayerNorm(Tensor weight, Tensor bias, float epsilon) : INorm
{
    InputNorm INorm.Input => new(NormKind.Layer, weight, bias, epsilon);

    /// <inheritdoc/>
    public void Forward(Tensor x, Tensor y, in Pass pass) => Ops.LayerNorm.Forward(pass.Backend, x, weight, bias, epsilon, y);
}

/// <summary>RMSNorm (arXiv 1910.07467).</summary>
/// <param name="weight">F32 <c>[columns]</c>, or null for ones.</param>
/// <param name="epsilon">Added to the mean square.</param>
public sealed class RmsNorm(Tensor? weight, float epsilon) : INorm
{
    InputNorm INorm.Input => new(NormKind.Rms, weight, null, epsilon);

    /// <inheritdoc/>
    public void Forward(Tensor x, Tensor y, in Pass pass) => Ops.RmsNorm.Forward(pass.Backend, x, weight, epsilon, y);
}
