using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The ternary weight that a BitNet checkpoint's dense matrix stands for. A matrix of {−s, 0, +s} is taken as it is; anything
/// else holds the master weights of training and is rounded as training does (absmean, arXiv 2402.17764, eq. 1 to 3).
/// </summary>
internal static class TernaryForm
{
    private const float SmallestScale = 1e-5f;

    public static TernaryWeight Of(Tensor matrix)
    {
        using Tensor floats = matrix.To(DType.F32);
        float scale = CommonMagnitude(floats) ?? AbsMean(floats);
        Tensor codes = Tensor.OnHost(matrix.Shape, DType.U8);
        for (nint row = 0; row < matrix.Shape[0]; row++)
        {
            ReadOnlySpan<float> values = floats.Slice(row, 1).HostSpan<float>();
            Span<byte> target = codes.Slice(row, 1).HostSpan<byte>();
            for (int i = 0; i < values.Length; i++)
            {
                target[i] = (byte)(1 + Math.Clamp(MathF.Round(values[i] / scale), -1, 1));
            }
        }

        return new TernaryWeight(codes, [scale]);
    }

    /// <summary>s if every value is −s, 0 or s; else null.</summary>
    private static float? CommonMagnitude(Tensor floats)
    {
        float scale = 0;
        for (nint row = 0; row < floats.Shape[0]; row++)
        {
            foreach (float value in floats.Slice(row, 1).HostSpan<float>())
            {
                float magnitude = MathF.Abs(value);
                if (magnitude == 0 || magnitude == scale)
                {
                    continue;
                }

                if (scale != 0)
                {
                    return null;
                }

                scale = magnitude;
            }
        }

        return scale == 0 ? SmallestScale : scale;
    }

    private static float AbsMean(Tensor floats)
    {
        double sum = 0;
        for (nint row = 0; row < floats.Shape[0]; row++)
        {
            foreach (float value in floats.Slice(row, 1).HostSpan<float>())
            {
                sum += MathF.Abs(value);
            }
        }

        return MathF.Max((float)(sum / floats.Shape.Count), SmallestScale);
    }
}
