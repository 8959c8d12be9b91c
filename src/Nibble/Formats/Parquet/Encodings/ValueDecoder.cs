namespace Nibble.Formats.Parquet.Encodings;

/// <summary>Reads the values of a page in whichever encoding it has.</summary>
internal static class ValueDecoder
{
    /// <summary>Reads values.</summary>
    public static object?[] Read(ByteCursor data, ParquetNode node, int count, long encoding, object?[]? dictionary) => encoding switch
    {
        0 => PlainValues.Read(data, node, count),
        2 or 8 => Indexed(data, count, dictionary),
        3 when node.Type == ParquetType.Boolean => Booleans(data, count),
        5 when node.Type is ParquetType.Int32 or ParquetType.Int64 => Whole(data, node, count),
        6 when node.Type == ParquetType.ByteArray => DeltaBytes.ReadLengths(data, node, count),
        7 when node.Type is ParquetType.ByteArray or ParquetType.FixedLenByteArray => DeltaBytes.ReadPrefixes(data, node, count),
        9 when PlainValues.WidthOf(node) > 0 => Split(data, node, count),
        _ => throw new ParquetDamage($"column {node.Path} has the encoding {encoding}, which does not fit its type or is not read"),
    };

    private static object?[] Indexed(ByteCursor data, int count, object?[]? dictionary)
    {
        if (dictionary is null)
        {
            throw new ParquetDamage($"column {data.Column} refers to a dictionary that it does not have");
        }

        int[] indices = RunLength.Read(data, data.Byte(), count);
        object?[] values = new object?[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (uint)indices[i] < (uint)dictionary.Length ? dictionary[indices[i]] : throw new ParquetDamage($"column {data.Column} refers to entry {(uint)indices[i]:N0} of a dictionary of {dictionary.Length:N0}");
        }

        return values;
    }

    private static object?[] Booleans(ByteCursor data, int count)
    {
        int[] bits = RunLength.Read(new ByteCursor(data.Take(data.Int32()), data.Column), 1, count);
        return Array.ConvertAll(bits, bit => (object?)(bit != 0));
    }

    private static object?[] Whole(ByteCursor data, ParquetNode node, int count)
    {
        long[] numbers = DeltaNumbers.Read(data, count);
        return Array.ConvertAll(numbers, number => (object?)PlainValues.Whole(node.Type == ParquetType.Int32 ? (int)number : number, node));
    }

    /// <summary>First the lowest byte of every value, then the next one of every value, and so on.</summary>
    private static object?[] Split(ByteCursor data, ParquetNode node, int count)
    {
        int width = PlainValues.WidthOf(node);
        ReadOnlySpan<byte> bytes = data.Take((long)width * count).Span;
        byte[] one = new byte[width];
        object?[] values = new object?[count];
        for (int i = 0; i < count; i++)
        {
            for (int part = 0; part < width; part++)
            {
                one[part] = bytes[(part * count) + i];
            }

            values[i] = PlainValues.Value(one, node);
        }

        return values;
    }
}
