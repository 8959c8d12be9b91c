using System.Runtime.Intrinsics;

namespace Nibble.Quantization;

/// <summary>
/// Fixed scales on which a layer's inputs and outputs are rounded to 8-bit integers: optimum-quanto's quantized activations (<c>qint8</c>).
/// </summary>
/// <param name="Input">Scale of the input, positive.</param>
/// <param name="Output">Scale of the output, bias included; positive.</param>
public sealed record StaticActivations(float Input, float Output)
{
    /// <summary>Largest code: a scale is the largest magnitude divided by it.</summary>
    internal const float Largest = 127;

    private const float Smallest = -128;

    /// <summary>y = clamp(round(x / scale), −128, 127) · scale, halves to even; y may be x.</summary>
    internal static void Round(ReadOnlySpan<float> x, float scale, Span<float> y)
    {
        Vector256<float> step = Vector256.Create(scale), low = Vector256.Create(Smallest), high = Vector256.Create(Largest);
        int i = 0;
        for (; i <= x.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> code = Vector256.Round(Vector256.Create(x[i..]) / step);
            (Vector256.Min(Vector256.Max(code, low), high) * step).CopyTo(y[i..]);
        }

        for (; i < x.Length; i++)
        {
            y[i] = MathF.Min(MathF.Max(MathF.Round(x[i] / scale), Smallest), Largest) * scale;
        }
    }
}
