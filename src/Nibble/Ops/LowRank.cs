using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>The steps of a low-rank adapter (LoRA, arXiv 2106.09685): y += s·B(A(dropout(x))).</summary>
public static class LowRank
{
    /// <summary>y += x·Wᵀ: x <c>[rows, in]</c>, W <c>[out, in]</c>, y <c>[rows, out]</c>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Add(IBackend backend, Tensor x, IPackedWeight w, Tensor y)
    {
        if (!backend.Computes(x.DType) || !backend.Computes(y.DType) || x.Shape.Columns != w.In || y.Shape.Columns != w.Out || x.Shape.Rows != y.Shape.Rows)
        {
            Throw.Argument("low-rank product", $"x {x.DType} {x.Shape} times Wᵀ, W [{w.Out}, {w.In}], can't be added to y {y.DType} {y.Shape}");
        }

        backend.Kernels.MatMulAdd(x, w, y);
    }

    /// <summary>y = factor·x·Wᵀ: x <c>[rows, in]</c>, W <c>[out, in]</c>, y <c>[rows, out]</c>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Narrow(IBackend backend, Tensor x, IPackedWeight w, float factor, Tensor y)
    {
        if (!backend.Computes(x.DType) || !backend.Computes(y.DType) || x.Shape.Columns != w.In || y.Shape.Columns != w.Out || x.Shape.Rows != y.Shape.Rows)
        {
            Throw.Argument("low-rank product", $"x {x.DType} {x.Shape} times Wᵀ, W [{w.Out}, {w.In}], does not give y {y.DType} {y.Shape}");
        }

        backend.Kernels.MatMulScaled(x, w, factor, y);
    }

    /// <summary>x = x·factor.</summary>
    public static void Scale(IBackend backend, Tensor x, float factor)
    {
        Check.Float("scale", "x", x, backend);
        backend.Kernels.Scale(x, factor);
    }

    /// <summary>Dropout in place; see <see cref="IKernels.Dropout"/>.</summary>
    /// <exception cref="ArgumentException">The probability is not in 0 … 1.</exception>
    public static void Dropout(IBackend backend, Tensor x, ulong key, float probability)
    {
        Check.Float("dropout", "x", x, backend);
        if (probability is not (>= 0 and < 1))
        {
            Throw.Argument("dropout", $"the probability must be at least 0 and below 1, not {probability}");
        }

        backend.Kernels.Dropout(x, key, probability);
    }
}
