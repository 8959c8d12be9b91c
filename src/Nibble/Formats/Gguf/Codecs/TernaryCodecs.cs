using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>Ternary blocks: {−1, 0, +1} times the largest magnitude of 256 elements.</summary>
internal abstract class TernaryCodec(GgufType type) : AffineCodec(type, 2, 256, AffineForm.ZeroPoint, DType.F16)
{
    public override bool CanEncode => true;

    protected override int Zero => 1;

    /// <summary>Bytes of the codes; the scale stands behind them.</summary>
    private int CodeBytes => Type.BlockBytes() - 2;

    protected override void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets)
    {
        (scales[0], offsets[0]) = (Half(block[CodeBytes..]), Zero);
        Take(block[..CodeBytes], codes);
    }

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        float scale = MathF.Abs(BlockRange.Extreme(values)), inverse = BlockRange.Inverse(scale);
        Span<byte> codes = stackalloc byte[256];
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (byte)(1 + (int)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero));
        }

        Put(codes, block[..CodeBytes]);
        return PutHalf(scale, block[CodeBytes..]);
    }

    protected abstract void Take(ReadOnlySpan<byte> bytes, Span<byte> codes);

    protected abstract void Put(ReadOnlySpan<byte> codes, Span<byte> bytes);
}

/// <summary>TQ2_0: <c>qs[64], d</c>; byte m of a half holds elements m, m+32, m+64, m+96 of its 128.</summary>
internal sealed class TQ2Codec() : TernaryCodec(GgufType.TQ2_0)
{
    protected override void Take(ReadOnlySpan<byte> bytes, Span<byte> codes)
    {
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (byte)((bytes[Place(i)] >> Shift(i)) & 3);
        }
    }

    protected override void Put(ReadOnlySpan<byte> codes, Span<byte> bytes)
    {
        bytes.Clear();
        for (int i = 0; i < codes.Length; i++)
        {
            bytes[Place(i)] |= (byte)(codes[i] << Shift(i));
        }
    }

    private static int Place(int element) => (element / 128 * 32) + (element % 32);

    private static int Shift(int element) => element % 128 / 32 * 2;
}

/// <summary>
/// TQ1_0: <c>qs[48], qh[4], d</c>; five base-3 digits in a byte, stored as ⌈n·256/243⌉ so that a digit comes out by multiplying
/// with a power of three and taking the carry.
/// </summary>
internal sealed class TQ1Codec() : TernaryCodec(GgufType.TQ1_0)
{
    /// <summary>Runs of bytes: first byte, bytes, first element, digits. Digit k of byte m is element first + m + k·bytes.</summary>
    private static readonly (int Byte, int Bytes, int Element, int Digits)[] Runs = [(0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)];

    protected override void Take(ReadOnlySpan<byte> bytes, Span<byte> codes)
    {
        foreach ((int first, int count, int element, int digits) in Runs)
        {
            for (int m = 0; m < count; m++)
            {
                int value = bytes[first + m];
                for (int k = 0; k < digits; k++)
                {
                    codes[element + m + (k * count)] = (byte)((value * 3) >> 8);
                    value = (value * 3) & 255;
                }
            }
        }
    }

    protected override void Put(ReadOnlySpan<byte> codes, Span<byte> bytes)
    {
        foreach ((int first, int count, int element, int digits) in Runs)
        {
            for (int m = 0; m < count; m++)
            {
                int number = 0;
                for (int k = 0; k < 5; k++)
                {
                    number = (number * 3) + (k < digits ? codes[element + m + (k * count)] : 0);
                }

                bytes[first + m] = (byte)(((number * 256) + 242) / 243);
            }
        }
    }
}
