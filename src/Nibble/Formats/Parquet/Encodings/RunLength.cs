using System.Numerics;

namespace Nibble.Formats.Parquet.Encodings;

/// <summary>The hybrid of runs and packed bits (encoding RLE), in which levels, dictionary indices and truth values are written.</summary>
internal static class RunLength
{
    /// <summary>Bits for numbers up to <paramref name="highest"/>.</summary>
    public static int WidthOf(int highest) => 32 - BitOperations.LeadingZeroCount((uint)highest);

    /// <summary>Reads numbers of <paramref name="width"/> bits.</summary>
    public static int[] Read(ByteCursor data, int width, int count)
    {
        if (width is < 0 or > 32)
        {
            throw new ParquetDamage($"a page of column {data.Column} has numbers of {width} bits");
        }

        int[] values = new int[count];
        int at = 0;
        while (at < count)
        {
            ulong head = data.VarInt();
            int most = (int)Math.Min(head >> 1, int.MaxValue / 8);
            if (most == 0)
            {
                throw new ParquetDamage($"a page of column {data.Column} has a run of nothing");
            }

            if ((head & 1) == 0)
            {
                int length = Math.Min(most, count - at);
                values.AsSpan(at, length).Fill(Number(data.Take((width + 7) / 8).Span));
                at += length;
            }
            else
            {
                // The last group may stand for more values than there are, and some writers leave its end out.
                int length = Math.Min(most * 8, count - at);
                long bytes = Math.Min((long)most * width, data.Left);
                Unpack(data.Take(Math.Max(bytes, (((long)length * width) + 7) / 8)).Span, width, values.AsSpan(at, length));
                at += length;
            }
        }

        return values;
    }

    /// <summary>Numbers of <paramref name="width"/> bits, lowest bit first.</summary>
    public static void Unpack(ReadOnlySpan<byte> bytes, int width, Span<int> values)
    {
        ulong held = 0;
        int bits = 0, at = 0;
        ulong mask = width == 32 ? uint.MaxValue : (1UL << width) - 1;
        for (int i = 0; i < values.Length; i++)
        {
            while (bits < width)
            {
                held |= (ulong)bytes[at++] << bits;
                bits += 8;
            }

            values[i] = (int)(held & mask);
            held >>= width;
            bits -= width;
        }
    }

    private static int Number(ReadOnlySpan<byte> bytes)
    {
        uint value = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            value |= (uint)bytes[i] << (8 * i);
        }

        return (int)value;
    }
}
