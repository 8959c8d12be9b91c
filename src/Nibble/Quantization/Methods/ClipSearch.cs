using System.Runtime.Intrinsics;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// The grid of a group whose range may be shrunk: of 80 ranges from the whole down to a fifth, the one with the least
/// Σ|w − ŵ|^2.4, as <c>mse</c> of GPTQ's authors (quant.py, <c>find_params</c>: norm 2.4, grid 100, maxshrink 0.8).
/// </summary>
internal static class ClipSearch
{
    private const int Steps = 100;
    private const int Tried = 80;

    // |x|^2.4 = x² · |x|^0.4.
    private const float Beyond2 = 0.4f;

    /// <summary>The best grid. Scales are rounded to their stored dtype before they are compared.</summary>
    public static CodeGrid GridOf(ReadOnlySpan<float> values, int bits, bool symmetric, DType scaleDType)
    {
        CodeGrid best = RtnMethod.GridOf(values, bits, symmetric, scaleDType);
        float least = Loss(values, best);
        (float min, float max) = VectorSearch.Range(values);
        min = MathF.Min(min, 0);
        max = MathF.Max(max, 0);
        float levels = (1 << bits) - 1;
        float range = symmetric ? 2 * MathF.Max(max, -min) : max - min;
        for (int i = 1; i < Tried && least > 0; i++)
        {
            float share = 1 - (i / (float)Steps);
            float scale = ScaleRounding.To(share * range / levels, scaleDType);
            if (scale == 0)
            {
                break;
            }

            float zero = symmetric ? best.Zero : Math.Clamp(MathF.Round(-share * min / scale), 0, levels) + 0f;
            CodeGrid grid = new(0, scale, zero, 0, levels);
            float loss = Loss(values, grid);
            if (loss < least)
            {
                (best, least) = (grid, loss);
            }
        }

        return best;
    }

    private static float Loss(ReadOnlySpan<float> values, in CodeGrid grid)
    {
        Vector256<float> scale = Vector256.Create(grid.Scale), zero = Vector256.Create(grid.Zero);
        Vector256<float> lowest = Vector256.Create(grid.Lowest), highest = Vector256.Create(grid.Highest), sum = Vector256<float>.Zero;
        Span<float> rest = stackalloc float[Vector256<float>.Count];
        for (int i = 0; i < values.Length; i += Vector256<float>.Count)
        {
            Vector256<float> x;
            if (values.Length - i >= Vector256<float>.Count)
            {
                x = Vector256.Create(values[i..]);
            }
            else
            {
                // Zeros have no error: every grid holds zero.
                rest.Clear();
                values[i..].CopyTo(rest);
                x = Vector256.Create<float>(rest);
            }

            Vector256<float> q = Vector256.Min(Vector256.Max(Vector256.Round(x / scale) + zero, lowest), highest);
            Vector256<float> error = Vector256.Abs(((q - zero) * scale) - x);
            sum += error * error * Vector256.Exp(Beyond2 * Vector256.Log(Vector256.Max(error, Vector256.Create(float.Epsilon * (1 << 24)))));
        }

        return Vector256.Sum(sum);
    }
}
