using System.Buffers.Binary;

namespace Nibble.Formats;

/// <summary>The levels of IQ4_NL and IQ4_XS, denser around zero.</summary>
internal static class IQ4Levels
{
    public static float[] Table { get; } = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

    /// <summary>The code of the level next to a number.</summary>
    public static int Nearest(float value)
    {
        int code = 0;
        while (code < 15 && value - Table[code] > Table[code + 1] - value)
        {
            code++;
        }

        return code;
    }
}

/// <summary>IQ4_NL: <c>d, qs[16]</c>, w = d·level[q].</summary>
internal sealed class IQ4NLCodec() : LevelCodec(GgufType.IQ4_NL, IQ4Levels.Table, 32)
{
    private const int Steps = 7;

    public override bool CanEncode => true;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales)
    {
        scales[0] = Half(block);
        Nibbles(block[2..], codes);
    }

    /// <summary>Tries scales that put the extreme at levels around −127, refits each by least squares with weights x², keeps the best.</summary>
    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        float extreme = BlockRange.Extreme(values), best = 0, scale = 0;
        for (int step = -Steps; step <= Steps && extreme != 0; step++)
        {
            (float dot, float square) = Fit(values, (step + IQ4Levels.Table[0]) / extreme);
            if (square > 0 && dot * dot > best * square)
            {
                (scale, best) = (dot / square, dot * dot / square);
            }
        }

        // Codes are chosen for the scale as it is stored.
        bool fits = PutHalf(scale, block);
        float inverse = BlockRange.Inverse(Half(block));
        for (int j = 0; j < 16; j++)
        {
            block[2 + j] = (byte)(IQ4Levels.Nearest(values[j] * inverse) | (IQ4Levels.Nearest(values[j + 16] * inverse) << 4));
        }

        return fits;
    }

    private static (float Dot, float Square) Fit(ReadOnlySpan<float> values, float inverse)
    {
        float dot = 0, square = 0;
        foreach (float value in values)
        {
            float level = IQ4Levels.Table[IQ4Levels.Nearest(value * inverse)], weight = value * value;
            dot += weight * level * value;
            square += weight * level * level;
        }

        return (dot, square);
    }
}

/// <summary>IQ4_XS: <c>d, scales_h u16, scales_l[4], qs[128]</c>; eight groups of 32 with 6-bit scales, 32 subtracted.</summary>
internal sealed class IQ4XSCodec() : LevelCodec(GgufType.IQ4_XS, IQ4Levels.Table, 32)
{
    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales)
    {
        float d = Half(block);
        int high = BinaryPrimitives.ReadUInt16LittleEndian(block[2..]);
        for (int group = 0; group < 8; group++)
        {
            int low = (block[4 + (group / 2)] >> (4 * (group % 2))) & 15;
            scales[group] = d * ((low | (((high >> (2 * group)) & 3) << 4)) - 32);
            Nibbles(block.Slice(8 + (16 * group), 16), codes.Slice(32 * group, 32));
        }
    }
}

/// <summary>MXFP4: <c>e, qs[16]</c>, w = 2^(e − 127)·level[q]; the nibbles are in another order than in Hugging Face's MXFP4.</summary>
internal sealed class MXFP4Codec() : LevelCodec(GgufType.MXFP4, [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6], 32)
{
    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales)
    {
        scales[0] = MathF.ScaleB(1, block[0] - 127);
        Nibbles(block[1..], codes);
    }
}
