using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>What happens to a product's input first.</summary>
internal enum NormKind
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>RMSNorm.</summary>
    Rms,

    /// <summary>LayerNorm.</summary>
    Layer,
}

/// <summary>A norm as a part of the products that read it; see <see cref="IKernels.RmsNorm"/> and <see cref="IKernels.LayerNorm"/>.</summary>
internal readonly record struct InputNorm(NormKind Kind, Tensor? Weight, Tensor? Bias, float Epsilon);

/// <summary>One of several products of the same input.</summary>
internal readonly record struct FusedProduct(IPackedWeight Weight, Tensor? Bias, Tensor Result);

/// <summary>Tables and positions of a rotation; see <see cref="IKernels.Rope"/>.</summary>
internal readonly record struct RopeArguments(Tensor Positions, Tensor Cos, Tensor Sin);

/// <summary>
/// What some backends do in fewer steps than the ops make, where nobody looks at what lies between: in passes without a tape. Each
/// returns false, and has done nothing, where it has no kernel for a call; the ops then do it.
/// </summary>
internal interface IFusedKernels
{
    /// <summary>Products of norm(x) with several weights.</summary>
    bool TryProject(in InputNorm norm, Tensor x, ReadOnlySpan<FusedProduct> products);

    /// <summary>gate's result = silu(norm(x)·gateᵀ)·(norm(x)·upᵀ).</summary>
    bool TryGate(in InputNorm norm, Tensor x, in FusedProduct gate, in FusedProduct up);

    /// <summary>down's result += (silu(norm(x)·gateᵀ)·(norm(x)·upᵀ))·downᵀ; the results of gate and up are overwritten.</summary>
    bool TryGatedAdd(in InputNorm norm, Tensor x, in FusedProduct gate, in FusedProduct up, in FusedProduct down) => false;

    /// <summary>result += x·Wᵀ + bias.</summary>
    bool TryAdd(Tensor x, in FusedProduct product);

    /// <summary>result = gelu(x·Wᵀ + bias).</summary>
    bool TryGelu(Tensor x, in FusedProduct product, GeluKind kind) => false;

    /// <summary>Turns the queries and <paramref name="key"/>, puts key and value into the cache, and attends.</summary>
    bool TryAttend(in AttentionArguments arguments, Tensor key, Tensor value, in RopeArguments? rope);
}
