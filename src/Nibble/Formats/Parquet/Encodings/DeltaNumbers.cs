namespace Nibble.Formats.Parquet.Encodings;

/// <summary>Differences between numbers, in blocks of packed bits (encoding DELTA_BINARY_PACKED).</summary>
internal static class DeltaNumbers
{
    /// <summary>Reads numbers.</summary>
    public static long[] Read(ByteCursor data, int count)
    {
        ulong block = data.VarInt(), parts = data.VarInt(), total = data.VarInt();
        long value = data.ZigZag();
        if (block is 0 or > 1 << 20 || parts is 0 or > 1 << 12 || block % parts != 0 || block / parts % 8 != 0 || total != (ulong)count)
        {
            throw new ParquetDamage($"a page of column {data.Column} has differences of {total:N0} numbers (not {count:N0}) in blocks of {block:N0}, {parts:N0} parts each");
        }

        long[] values = new long[count];
        int at = 0, partLength = (int)(block / parts);
        if (count > 0)
        {
            values[at++] = value;
        }

        while (at < count)
        {
            long least = data.ZigZag();
            ReadOnlyMemory<byte> widths = data.Take((long)parts);
            for (int part = 0; part < (int)parts && at < count; part++)
            {
                int width = widths.Span[part];
                if (width > 64)
                {
                    throw new ParquetDamage($"a page of column {data.Column} has differences of {width} bits");
                }

                BitCursor bits = new(data.Take((long)partLength * width / 8));
                for (int i = 0; i < partLength && at < count; i++)
                {
                    value = unchecked(value + least + (long)bits.Next(width));
                    values[at++] = value;
                }
            }
        }

        return values;
    }

    /// <summary>Bits, lowest first, in numbers of up to 64.</summary>
    private ref struct BitCursor(ReadOnlyMemory<byte> bytes)
    {
        private readonly ReadOnlySpan<byte> _bytes = bytes.Span;
        private long _bit;

        public ulong Next(int width)
        {
            ulong value = 0;
            for (int done = 0; done < width;)
            {
                int offset = (int)(_bit % 8), taken = Math.Min(8 - offset, width - done);
                ulong part = ((ulong)_bytes[(int)(_bit / 8)] >> offset) & ((1UL << taken) - 1);
                value |= part << done;
                done += taken;
                _bit += taken;
            }

            return value;
        }
    }
}
