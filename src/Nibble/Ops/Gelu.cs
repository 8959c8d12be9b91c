using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Gaussian error linear unit (arXiv 1606.08415).</summary>
public static class Gelu
{
    /// <summary>Elementwise; y may be x.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, GeluKind kind, Tensor y)
    {
        Check.Float("gelu", "x", x, backend);
        Check.Same("gelu", "x", x, "y", y);
        backend.Kernels.Gelu(x, kind, y);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor x, GeluKind kind, Tensor y)
    {
        Span<float> source = x.HostSpan<float>(), destination = y.HostSpan<float>();
        for (int i = 0; i < source.Length; i++)
        {
            double value = source[i];
            double inner = Math.Sqrt(2 / Math.PI) * (value + (0.044715 * value * value * value));
            destination[i] = (float)(kind == GeluKind.Exact
                ? 0.5 * value * ErfComplement(-value / Math.Sqrt(2))
                : value / (1 + Math.Exp(-2 * inner)));
        }
    }

    /// <summary>1 − erf(x), to double precision: the Taylor series near 0, a continued fraction beyond.</summary>
    internal static double ErfComplement(double x)
    {
        if (x < 0)
        {
            return 2 - ErfComplement(-x);
        }

        return x < 2.5 ? 1 - ErfSeries(x) : x > 27 ? 0 : ErfFraction(x);
    }

    private static double ErfSeries(double x)
    {
        double term = x, sum = x;
        for (int n = 1; n < 100; n++)
        {
            term *= -x * x / n;
            sum += term / ((2 * n) + 1);
        }

        return 2 / Math.Sqrt(Math.PI) * sum;
    }

    private static double ErfFraction(double x)
    {
        double fraction = x;
        for (int n = 200; n > 0; n--)
        {
            fraction = x + (n / 2.0 / fraction);
        }

        return Math.Exp(-x * x) / (fraction * Math.Sqrt(Math.PI));
    }
}
