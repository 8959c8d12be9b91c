namespace Nibble.Formats.Parquet.Encodings;

/// <summary>Bytes whose lengths, or common beginnings, are written as differences.</summary>
internal static class DeltaBytes
{
    /// <summary>DELTA_LENGTH_BYTE_ARRAY: all lengths, then all bytes.</summary>
    public static object?[] ReadLengths(ByteCursor data, ParquetNode node, int count)
    {
        long[] lengths = DeltaNumbers.Read(data, count);
        object?[] values = new object?[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = PlainValues.Value(data.Take(lengths[i]).Span, node);
        }

        return values;
    }

    /// <summary>DELTA_BYTE_ARRAY: how much of the value before is kept, then what follows it.</summary>
    public static object?[] ReadPrefixes(ByteCursor data, ParquetNode node, int count)
    {
        long[] kept = DeltaNumbers.Read(data, count), lengths = DeltaNumbers.Read(data, count);
        byte[] last = [];
        long made = 0;
        object?[] values = new object?[count];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> rest = data.Take(lengths[i]).Span;
            made += kept[i] + rest.Length;
            if (kept[i] < 0 || kept[i] > last.Length || made > int.MaxValue)
            {
                throw new ParquetDamage($"column {node.Path} keeps {kept[i]:N0} bytes of a value of {last.Length:N0}, or is larger than 2 GB");
            }

            last = [.. last.AsSpan(0, (int)kept[i]), .. rest];
            values[i] = PlainValues.Value(last, node);
        }

        return values;
    }
}
