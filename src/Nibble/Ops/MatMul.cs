using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>y = x·Wᵀ + bias: the product that every linear layer is.</summary>
public static class MatMul
{
    /// <summary>x <c>[rows, in]</c>, W <c>[out, in]</c>, bias <c>[out]</c> or null, y <c>[rows, out]</c>; leading dimensions count as rows.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        if (!backend.Computes(x.DType) || !backend.Computes(y.DType) || x.Shape.Columns != w.In || y.Shape.Columns != w.Out
            || (x.Shape.Rows != y.Shape.Rows && x.Shape.Count != 0))
        {
            Throw.Argument("matmul", $"x {x.DType} {x.Shape} times Wᵀ, W [{w.Out}, {w.In}], does not give y {y.DType} {y.Shape}");
        }

        Check.Vector("matmul", "bias", bias, w.Out);
        backend.Kernels.MatMul(x, w, bias, y);
    }

    /// <summary>y += x·Wᵀ + bias, x BF16 and y F32: what a layer of a block adds to the residual stream in training.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    internal static void AddForward(IBackend backend, Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        if (x.DType != DType.BF16 || y.DType != DType.F32 || x.Shape.Columns != w.In || y.Shape.Columns != w.Out || x.Shape.Rows != y.Shape.Rows)
        {
            Throw.Argument("matmul", $"x {x.DType} {x.Shape} times Wᵀ, W [{w.Out}, {w.In}], can't be added to y {y.DType} {y.Shape}");
        }

        Check.Vector("matmul", "bias", bias, w.Out);
        backend.Kernels.MatMulAdd(x, w, bias, y);
    }

    /// <summary>The definition, in double precision; w is F32 <c>[out, in]</c>.</summary>
    internal static void Reference(Tensor x, Tensor w, Tensor? bias, Tensor y)
    {
        (int depth, int features) = ((int)w.Shape[1], (int)w.Shape[0]);
        Span<float> xs = x.HostSpan<float>(), ws = w.HostSpan<float>(), ys = y.HostSpan<float>();
        for (int row = 0; row < (int)y.Shape.Rows; row++)
        {
            for (int feature = 0; feature < features; feature++)
            {
                double sum = bias is null ? 0 : bias.HostSpan<float>()[feature];
                for (int k = 0; k < depth; k++)
                {
                    sum += (double)xs[(row * depth) + k] * ws[(feature * depth) + k];
                }

                ys[(row * features) + feature] = (float)sum;
            }
        }
    }
}
