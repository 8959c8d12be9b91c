using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>Q2_K: <c>scales[16], qs[64], d, dmin</c>; groups of 16, w = d·sc·q − dmin·m with 4-bit sc (low) and m (high).</summary>
internal sealed class Q2KCodec() : AffineCodec(GgufType.Q2_K, 2, 16, AffineForm.Bias, DType.F32)
{
    public override bool CanEncode => true;

    protected override int Zero => 0;

    /// <summary>Two low bits of each element: byte l of a run of 32 holds elements l, l+32, l+64, l+96 of 128.</summary>
    public static void LowBits(ReadOnlySpan<byte> bytes, Span<byte> codes)
    {
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (byte)((bytes[(i / 128 * 32) + (i % 32)] >> (i % 128 / 32 * 2)) & 3);
        }
    }

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        float d = Half(block[80..]), dmin = Half(block[82..]);
        LowBits(block.Slice(16, 64), codes);
        for (int group = 0; group < 16; group++)
        {
            scales[group] = d * (block[group] & 15);
            offsets[group] = -(dmin * (block[group] >> 4));
        }
    }

    /// <summary>Puts the two low bits of each code where <see cref="LowBits"/> finds them.</summary>
    public static void PutLowBits(ReadOnlySpan<byte> codes, Span<byte> bytes)
    {
        bytes.Clear();
        for (int i = 0; i < codes.Length; i++)
        {
            bytes[(i / 128 * 32) + (i % 32)] |= (byte)((codes[i] & 3) << (i % 128 / 32 * 2));
        }
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[16], mins = stackalloc float[16];
        for (int group = 0; group < 16; group++)
        {
            (scales[group], mins[group]) = KSearch.ScaleAndMin(values.Slice(16 * group, 16), 3);
        }

        bool fits = PutHalf(BlockRange.Ends(scales).Max / 15, block[80..]) & PutHalf(BlockRange.Ends(mins).Max / 15, block[82..]);
        float d = Half(block[80..]), dmin = Half(block[82..]);
        Span<byte> codes = stackalloc byte[256];
        for (int group = 0; group < 16; group++)
        {
            byte scale = KSearch.Code(scales[group], d, 15), min = KSearch.Code(mins[group], dmin, 15);
            block[group] = (byte)(scale | (min << 4));
            for (int i = 16 * group; i < 16 * (group + 1); i++)
            {
                codes[i] = KSearch.Code(values[i] + (dmin * min), d * scale, 3);
            }
        }

        PutLowBits(codes, block.Slice(16, 64));
        return fits;
    }
}

/// <summary>Q3_K: <c>hmask[32], qs[64], scales[12], d</c>; groups of 16, w = d·(sc − 32)·(q − 4), the third bit in hmask.</summary>
internal sealed class Q3KCodec() : AffineCodec(GgufType.Q3_K, 3, 16, AffineForm.ZeroPoint, DType.F32)
{
    public override bool CanEncode => true;

    protected override int Zero => 4;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        Q2KCodec.LowBits(block.Slice(32, 64), codes);
        for (int i = 0; i < 256; i++)
        {
            codes[i] |= (byte)(((block[i % 32] >> (i / 32)) & 1) << 2);
        }

        ReadOnlySpan<byte> packed = block.Slice(96, 12);
        float d = Half(block[108..]);
        offsets.Fill(Zero);
        for (int group = 0; group < 16; group++)
        {
            int low = (packed[group % 8] >> (group / 8 * 4)) & 15;
            int high = (packed[8 + (group % 4)] >> (group / 4 * 2)) & 3;
            scales[group] = d * ((low | (high << 4)) - 32);
        }
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[16];
        for (int group = 0; group < 16; group++)
        {
            scales[group] = KSearch.SymmetricScale(values.Slice(16 * group, 16), 4);
        }

        block.Clear();
        bool fits = PutHalf(BlockRange.Extreme(scales) / -32, block[108..]);
        float d = Half(block[108..]);
        Span<byte> codes = stackalloc byte[256];
        for (int group = 0; group < 16; group++)
        {
            int scale = (int)Math.Clamp(MathF.Round(scales[group] * BlockRange.Inverse(d)), -32, 31);
            PutScale(scale + 32, group, block.Slice(96, 12));
            for (int i = 16 * group; i < 16 * (group + 1); i++)
            {
                codes[i] = (byte)(Math.Clamp(MathF.Round(values[i] * BlockRange.Inverse(d * scale)), -Zero, Zero - 1) + Zero);
                block[i % 32] |= (byte)(codes[i] >> 2 << (i / 32));
            }
        }

        Q2KCodec.PutLowBits(codes, block.Slice(32, 64));
        return fits;
    }

    private static void PutScale(int code, int group, Span<byte> packed)
    {
        packed[group % 8] |= (byte)((code & 15) << (group / 8 * 4));
        packed[8 + (group % 4)] |= (byte)(code >> 4 << (group / 4 * 2));
    }
}

/// <summary>Q4_K: <c>d, dmin, scales[12], qs[128]</c>; Q5_K has <c>qh[32]</c> before qs. Groups of 32, w = d·sc·q − dmin·m.</summary>
internal sealed class Q4KCodec(GgufType type) : AffineCodec(type, type == GgufType.Q4_K ? 4 : 5, 32, AffineForm.Bias, DType.F32)
{
    private const int ScaleBytes = 12;

    private readonly int _most = type == GgufType.Q4_K ? 15 : 31;

    private readonly int _start = type == GgufType.Q4_K ? 16 : 48;

    public override bool CanEncode => true;

    protected override int Zero => 0;

    /// <summary>The 6-bit scale and minimum of a group.</summary>
    public static (int Scale, int Min) Scales(ReadOnlySpan<byte> packed, int group) => group < 4
        ? (packed[group] & 63, packed[group + 4] & 63)
        : ((packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4), (packed[group + 4] >> 4) | (packed[group] >> 6 << 4));

    /// <summary>Writes eight 6-bit scales and minima.</summary>
    public static void PutScales(ReadOnlySpan<byte> scales, ReadOnlySpan<byte> mins, Span<byte> packed)
    {
        for (int group = 0; group < 4; group++)
        {
            packed[group] = (byte)(scales[group] | (scales[group + 4] >> 4 << 6));
            packed[group + 4] = (byte)(mins[group] | (mins[group + 4] >> 4 << 6));
            packed[group + 8] = (byte)((scales[group + 4] & 15) | ((mins[group + 4] & 15) << 4));
        }
    }

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        float d = Half(block), dmin = Half(block[2..]);
        for (int group = 0; group < 8; group++)
        {
            (int scale, int min) = Scales(block.Slice(4, ScaleBytes), group);
            scales[group] = d * scale;
            offsets[group] = -(dmin * min);
        }

        for (int chunk = 0; chunk < 4; chunk++)
        {
            Nibbles(block.Slice(_start + (32 * chunk), 32), codes.Slice(64 * chunk, 64));
        }

        for (int i = 0; _most == 31 && i < 256; i++)
        {
            codes[i] |= (byte)(((block[16 + (i % 32)] >> (i / 32)) & 1) << 4);
        }
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[8], mins = stackalloc float[8];
        for (int group = 0; group < 8; group++)
        {
            (scales[group], mins[group]) = KSearch.ScaleAndMin(values.Slice(32 * group, 32), _most);
        }

        float d = BlockRange.Ends(scales).Max / 63, dmin = BlockRange.Ends(mins).Max / 63;
        bool fits = PutHalf(d, block) & PutHalf(dmin, block[2..]);
        Span<byte> scaleCodes = stackalloc byte[8], minCodes = stackalloc byte[8];
        for (int group = 0; group < 8; group++)
        {
            scaleCodes[group] = KSearch.Code(scales[group], d, 63);
            minCodes[group] = KSearch.Code(mins[group], dmin, 63);
        }

        PutScales(scaleCodes, minCodes, block.Slice(4, ScaleBytes));
        PutCodes(values, block, scaleCodes, minCodes);
        return fits;
    }

    private void PutCodes(ReadOnlySpan<float> values, Span<byte> block, ReadOnlySpan<byte> scaleCodes, ReadOnlySpan<byte> minCodes)
    {
        float d = Half(block), dmin = Half(block[2..]);
        block[16..].Clear();
        for (int i = 0; i < 256; i++)
        {
            int group = i / 32;
            byte code = KSearch.Code(values[i] + (dmin * minCodes[group]), d * scaleCodes[group], _most);
            block[_start + (i / 64 * 32) + (i % 32)] |= (byte)((code & 15) << (group % 2 * 4));
            if (_most == 31)
            {
                // The fifth bit of the eight groups, one bit each, for 32 columns.
                block[16 + (i % 32)] |= (byte)(code >> 4 << group);
            }
        }
    }
}

/// <summary>Q6_K: <c>ql[128], qh[64], scales[16] i8, d</c>; groups of 16, w = d·sc·(q − 32).</summary>
internal sealed class Q6KCodec() : AffineCodec(GgufType.Q6_K, 6, 16, AffineForm.ZeroPoint, DType.F32)
{
    private const int Scales = 192, D = 208;

    public override bool CanEncode => true;

    protected override int Zero => 32;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        for (int i = 0; i < 256; i++)
        {
            (int low, int lowShift, int high, int highShift) = Place(i);
            codes[i] = (byte)(((block[low] >> lowShift) & 15) | (((block[high] >> highShift) & 3) << 4));
        }

        float d = Half(block[D..]);
        offsets.Fill(Zero);
        for (int group = 0; group < 16; group++)
        {
            scales[group] = d * (sbyte)block[Scales + group];
        }
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[16];
        for (int group = 0; group < 16; group++)
        {
            scales[group] = KSearch.SymmetricScale(values.Slice(16 * group, 16), 32);
        }

        block.Clear();
        bool fits = PutHalf(BlockRange.Extreme(scales) / -128, block[D..]);
        float d = Half(block[D..]);
        for (int group = 0; group < 16; group++)
        {
            block[Scales + group] = (byte)(sbyte)Math.Clamp(MathF.Round(scales[group] * BlockRange.Inverse(d)), -128, 127);
        }

        for (int i = 0; i < 256; i++)
        {
            float scale = d * (sbyte)block[Scales + (i / 16)];
            int code = (int)Math.Clamp(MathF.Round(values[i] * BlockRange.Inverse(scale)), -32, 31) + Zero;
            (int low, int lowShift, int high, int highShift) = Place(i);
            block[low] |= (byte)((code & 15) << lowShift);
            block[high] |= (byte)(code >> 4 << highShift);
        }

        return fits;
    }

    /// <summary>Where an element's four low and two high bits stand.</summary>
    private static (int Low, int LowShift, int High, int HighShift) Place(int i)
    {
        int half = i / 128, quarter = i % 128 / 32;
        return ((half * 64) + (i % 64), quarter / 2 * 4, 128 + (half * 32) + (i % 32), quarter * 2);
    }
}
