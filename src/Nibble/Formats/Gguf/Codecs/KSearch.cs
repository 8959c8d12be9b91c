namespace Nibble.Formats;

/// <summary>
/// Scales for the K types by a plain search: a few candidates around the one that spans the range, each refitted by weighted least
/// squares, the best kept. The same idea as the reference implementation's, not its exact bytes.
/// </summary>
internal static class KSearch
{
    private const int SymmetricSteps = 9;
    private const int RangeSteps = 20;
    private const float Step = 0.1f;

    /// <summary>round(value / scale) in 0 … <paramref name="most"/>; 0 for a scale of 0.</summary>
    public static byte Code(float value, float scale, int most) =>
        (byte)Math.Clamp(MathF.Round(value * BlockRange.Inverse(scale)), 0, most);

    /// <summary>A scale for codes −<paramref name="half"/> … <paramref name="half"/> − 1 (its sign puts the extreme at −half); weights x².</summary>
    public static float SymmetricScale(ReadOnlySpan<float> values, int half)
    {
        float extreme = BlockRange.Extreme(values), scale = 0, best = 0;
        for (int step = -SymmetricSteps; step <= SymmetricSteps && extreme != 0; step++)
        {
            float inverse = -(half + (Step * step)) / extreme, dot = 0, square = 0;
            foreach (float value in values)
            {
                float code = Math.Clamp(MathF.Round(value * inverse), -half, half - 1), weight = value * value;
                dot += weight * value * code;
                square += weight * code * code;
            }

            if (square > 0 && dot * dot > best * square)
            {
                (scale, best) = (dot / square, dot * dot / square);
            }
        }

        return scale;
    }

    /// <summary>Scale and minimum m ≥ 0 for w = scale·q − m, q in 0 … <paramref name="most"/>; weights |x| + rms.</summary>
    public static (float Scale, float Min) ScaleAndMin(ReadOnlySpan<float> values, int most)
    {
        (float min, float max) = BlockRange.Ends(values);
        min = MathF.Min(min, 0);
        if (max <= min)
        {
            return (0, -min);
        }

        float rms = Rms(values);
        (float Scale, float Min, float Error) best = ((max - min) / most, min, float.PositiveInfinity);
        best.Error = Error(values, rms, best.Scale, best.Min, most);
        for (int step = 0; step <= RangeSteps; step++)
        {
            float inverse = (most - 1 + (Step * step)) / (max - min);
            (float scale, float shift) = Refit(values, rms, inverse, min, most);
            float error = Error(values, rms, scale, shift, most);
            if (scale > 0 && error < best.Error)
            {
                best = (scale, shift, error);
            }
        }

        return (best.Scale, -best.Min);
    }

    private static float Rms(ReadOnlySpan<float> values)
    {
        float sum = 0;
        foreach (float value in values)
        {
            sum += value * value;
        }

        return MathF.Sqrt(sum / values.Length);
    }

    /// <summary>Least squares of x ≈ scale·q + min over fixed codes; a positive minimum becomes 0.</summary>
    private static (float Scale, float Min) Refit(ReadOnlySpan<float> values, float rms, float inverse, float min, int most)
    {
        float w = 0, x = 0, q = 0, qq = 0, xq = 0;
        foreach (float value in values)
        {
            float code = Math.Clamp(MathF.Round((value - min) * inverse), 0, most), weight = rms + MathF.Abs(value);
            w += weight;
            x += weight * value;
            q += weight * code;
            qq += weight * code * code;
            xq += weight * value * code;
        }

        float determinant = (w * qq) - (q * q);
        if (determinant <= 0)
        {
            return (0, min);
        }

        float shift = ((qq * x) - (q * xq)) / determinant;
        return shift <= 0 ? (((w * xq) - (x * q)) / determinant, shift) : (qq > 0 ? xq / qq : 0, 0);
    }

    private static float Error(ReadOnlySpan<float> values, float rms, float scale, float min, int most)
    {
        float sum = 0;
        foreach (float value in values)
        {
            float code = Code(value - min, scale, most);
            float off = (scale * code) + min - value;
            sum += (rms + MathF.Abs(value)) * off * off;
        }

        return sum;
    }
}
