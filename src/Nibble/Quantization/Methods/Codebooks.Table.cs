namespace Nibble.Quantization.Methods;

/// <summary>The 4-bit tables of bitsandbytes, in code order.</summary>
internal static class Codebooks
{
    /// <summary>
    /// NF4 (QLoRA, arXiv 2305.14314, section 3): quantiles of a normal distribution such that each code is equally likely, with an
    /// exact zero and both ends at ±1.
    /// </summary>
    public static float[] Nf4 { get; } =
    [
        -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
        -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
        0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
    ];

    /// <summary>FP4: a sign, two bits of exponent and one of mantissa, divided by the largest value, 12.</summary>
    public static float[] Fp4 { get; } =
    [
        0f, 0.0625f / 12, 8f / 12, 1f, 4f / 12, 6f / 12, 2f / 12, 3f / 12, 0f, -0.0625f / 12, -8f / 12, -1f, -4f / 12, -6f / 12, -2f / 12, -3f / 12,
    ];
}
