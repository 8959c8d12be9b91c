using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Rotary position embedding (arXiv 2104.09864), the "two halves" form: element j turns with j + dim/2.</summary>
public static class Rope
{
    /// <summary>x <c>[rows, heads, dim]</c> in place, positions I32 <c>[rows]</c>, cos and sin <c>[positions, dim/2]</c>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit, or a position is not in the table.</exception>
    public static void Forward(IBackend backend, Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
        Check.Float("rope", "x", x, backend);
        Check.Float("rope", "cos", cos);
        Check.Same("rope", "cos", cos, "sin", sin);
        if (x.Shape.Rank != 3 || cos.Shape.Rank != 2 || x.Shape[2] != 2 * cos.Shape[1])
        {
            Throw.Argument("rope", $"x {x.Shape} must be [rows, heads, dim] and cos {cos.Shape} [positions, dim/2]");
        }

        Check.Indices("rope", "positions", positions, x.Shape[0]);
        Check.Range("rope", "positions", positions, 0, cos.Shape[0]);
        backend.Kernels.Rope(x, positions, cos, sin);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
        (int heads, int half) = ((int)x.Shape[1], (int)cos.Shape[1]);
        Span<float> values = x.HostSpan<float>();
        for (int row = 0; row < (int)x.Shape[0]; row++)
        {
            int angle = positions.HostSpan<int>()[row] * half;
            for (int i = 0; i < heads * half; i++)
            {
                int a = (((row * heads) + (i / half)) * 2 * half) + (i % half);
                (double c, double s) = (cos.HostSpan<float>()[angle + (i % half)], sin.HostSpan<float>()[angle + (i % half)]);
                (double first, double second) = (values[a], values[a + half]);
                values[a] = (float)((first * c) - (second * s));
                values[a + half] = (float)((second * c) + (first * s));
            }
        }
    }
}
