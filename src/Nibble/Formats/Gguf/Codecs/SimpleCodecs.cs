using System.Buffers.Binary;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>Largest magnitudes and ends of a block.</summary>
internal static class BlockRange
{
    /// <summary>The element of largest magnitude, with its sign; the first of equal ones.</summary>
    public static float Extreme(ReadOnlySpan<float> values)
    {
        float extreme = 0;
        foreach (float value in values)
        {
            extreme = MathF.Abs(value) > MathF.Abs(extreme) ? value : extreme;
        }

        return extreme;
    }

    /// <summary>Smallest and largest element.</summary>
    public static (float Min, float Max) Ends(ReadOnlySpan<float> values)
    {
        float min = values[0], max = values[0];
        foreach (float value in values)
        {
            min = MathF.Min(min, value);
            max = MathF.Max(max, value);
        }

        return (min, max);
    }

    /// <summary>1 / scale, or 0 for a block of zeros.</summary>
    public static float Inverse(float scale) => scale == 0 ? 0 : 1 / scale;
}

/// <summary>Q4_0: <c>d, qs[16]</c>, w = (q − 8)·d. The scale is the extreme over −8, so that it is met exactly, and rounding uses it before it is stored.</summary>
internal sealed class Q4Codec(GgufType type) : AffineCodec(type, 4, 32, AffineForm.ZeroPoint, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 8;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block), Zero);
        Nibbles(block[2..], codes);
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        float scale = BlockRange.Extreme(values) / -8, inverse = BlockRange.Inverse(scale);
        for (int j = 0; j < 16; j++)
        {
            block[2 + j] = (byte)(Code(values[j] * inverse) | (Code(values[j + 16] * inverse) << 4));
        }

        return PutHalf(scale, block);

        static int Code(float value) => Math.Min(15, (int)(value + 8.5f));
    }
}

/// <summary>Q4_1: <c>d, m, qs[16]</c>, w = q·d + m.</summary>
internal sealed class Q4MinCodec() : AffineCodec(GgufType.Q4_1, 4, 32, AffineForm.Bias, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 0;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block), Half(block[2..]));
        Nibbles(block[4..], codes);
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        (float min, float max) = BlockRange.Ends(values);
        float scale = (max - min) / 15, inverse = BlockRange.Inverse(scale);
        for (int j = 0; j < 16; j++)
        {
            block[4 + j] = (byte)(Code((values[j] - min) * inverse) | (Code((values[j + 16] - min) * inverse) << 4));
        }

        return PutHalf(scale, block) & PutHalf(min, block[2..]);

        static int Code(float value) => Math.Min(15, (int)(value + 0.5f));
    }
}

/// <summary>Q5_0: <c>d, qh[4], qs[16]</c>, w = (q − 16)·d; bit j of qh is the fifth bit of element j.</summary>
internal sealed class Q5Codec() : AffineCodec(GgufType.Q5_0, 5, 32, AffineForm.ZeroPoint, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 16;

    /// <summary>Adds the fifth bits.</summary>
    public static void HighBits(uint bits, Span<byte> codes)
    {
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] |= (byte)(((bits >> i) & 1) << 4);
        }
    }

    /// <summary>Writes 32 codes of 5 bits as <c>qh[4], qs[16]</c>.</summary>
    public static void Put(ReadOnlySpan<byte> codes, Span<byte> bytes)
    {
        uint high = 0;
        for (int i = 0; i < 32; i++)
        {
            high |= (uint)(codes[i] >> 4) << i;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(bytes, high);
        for (int j = 0; j < 16; j++)
        {
            bytes[4 + j] = (byte)((codes[j] & 15) | (codes[j + 16] << 4));
        }
    }

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block), Zero);
        Nibbles(block[6..], codes);
        HighBits(BinaryPrimitives.ReadUInt32LittleEndian(block[2..]), codes);
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        float scale = BlockRange.Extreme(values) / -16, inverse = BlockRange.Inverse(scale);
        Span<byte> codes = stackalloc byte[32];
        for (int i = 0; i < 32; i++)
        {
            codes[i] = (byte)Math.Min(31, (int)((values[i] * inverse) + 16.5f));
        }

        Put(codes, block[2..]);
        return PutHalf(scale, block);
    }
}

/// <summary>Q5_1: <c>d, m, qh[4], qs[16]</c>, w = q·d + m.</summary>
internal sealed class Q5MinCodec() : AffineCodec(GgufType.Q5_1, 5, 32, AffineForm.Bias, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 0;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block), Half(block[2..]));
        Nibbles(block[8..], codes);
        Q5Codec.HighBits(BinaryPrimitives.ReadUInt32LittleEndian(block[4..]), codes);
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        (float min, float max) = BlockRange.Ends(values);
        float scale = (max - min) / 31, inverse = BlockRange.Inverse(scale);
        Span<byte> codes = stackalloc byte[32];
        for (int i = 0; i < 32; i++)
        {
            codes[i] = (byte)Math.Min(31, (int)(((values[i] - min) * inverse) + 0.5f));
        }

        Q5Codec.Put(codes, block[4..]);
        return PutHalf(scale, block) & PutHalf(min, block[2..]);
    }
}

/// <summary>Q8_0: <c>d, qs[32]</c> signed, w = q·d; round half away from zero.</summary>
internal sealed class Q8Codec() : AffineCodec(GgufType.Q8_0, 8, 32, AffineForm.ZeroPoint, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 128;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block), Zero);
        for (int i = 0; i < 32; i++)
        {
            codes[i] = (byte)(block[2 + i] ^ 128);
        }
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        float scale = MathF.Abs(BlockRange.Extreme(values)) / 127, inverse = BlockRange.Inverse(scale);
        for (int i = 0; i < 32; i++)
        {
            block[2 + i] = (byte)(sbyte)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero);
        }

        return PutHalf(scale, block);
    }
}
