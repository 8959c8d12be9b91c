using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace Nibble.Formats.Parquet.Encodings;

/// <summary>Values one after the other (encoding PLAIN), and what bytes of a type mean.</summary>
internal static class PlainValues
{
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <summary>Reads values.</summary>
    public static object?[] Read(ByteCursor data, ParquetNode node, int count)
    {
        int width = WidthOf(node);
        if (count > (width > 0 ? data.Left / width : node.Type == ParquetType.Boolean ? data.Left * 8L : data.Left / 4))
        {
            throw new ParquetDamage($"a page of column {data.Column} claims {count:N0} values in {data.Left:N0} bytes");
        }

        object?[] values = new object?[count];
        if (node.Type == ParquetType.Boolean)
        {
            ReadOnlySpan<byte> bits = data.Take((count + 7) / 8).Span;
            for (int i = 0; i < count; i++)
            {
                values[i] = ((bits[i / 8] >> (i % 8)) & 1) != 0;
            }

            return values;
        }

        for (int i = 0; i < count; i++)
        {
            values[i] = Value(data.Take(width > 0 ? width : data.Int32()).Span, node);
        }

        return values;
    }

    /// <summary>Bytes of a value; 0 where values have lengths of their own.</summary>
    public static int WidthOf(ParquetNode node) => node.Type switch
    {
        ParquetType.Int32 or ParquetType.Float => 4,
        ParquetType.Int64 or ParquetType.Double => 8,
        ParquetType.Int96 => 12,
        ParquetType.FixedLenByteArray => node.TypeLength,
        _ => 0,
    };

    /// <summary>The value of bytes.</summary>
    public static object? Value(ReadOnlySpan<byte> bytes, ParquetNode node) => node.Type switch
    {
        ParquetType.Int32 => Whole(BinaryPrimitives.ReadInt32LittleEndian(bytes), node),
        ParquetType.Int64 => Whole(BinaryPrimitives.ReadInt64LittleEndian(bytes), node),
        ParquetType.Float => (double)BinaryPrimitives.ReadSingleLittleEndian(bytes),
        ParquetType.Double => BinaryPrimitives.ReadDoubleLittleEndian(bytes),
        ParquetType.FixedLenByteArray when node.Meaning == ParquetMeaning.Float16 && bytes.Length == 2 => (double)BinaryPrimitives.ReadHalfLittleEndian(bytes),
        ParquetType.ByteArray or ParquetType.FixedLenByteArray when node.Meaning == ParquetMeaning.Decimal => (double)new BigInteger(bytes, isBigEndian: true) / Math.Pow(10, node.Scale),
        ParquetType.ByteArray => Text(bytes, node),
        _ => bytes.ToArray(),
    };

    /// <summary>A whole number as the column means it.</summary>
    public static object Whole(long value, ParquetNode node) => node.Meaning switch
    {
        ParquetMeaning.Unsigned when node.Type == ParquetType.Int32 => (object)(long)(uint)value,
        ParquetMeaning.Unsigned when value < 0 => (double)(ulong)value,
        ParquetMeaning.Decimal => value / Math.Pow(10, node.Scale),
        _ => value,
    };

    /// <summary>Bytes that are marked as text must be one; others are, if they can be.</summary>
    private static object Text(ReadOnlySpan<byte> bytes, ParquetNode node)
    {
        if (System.Text.Unicode.Utf8.IsValid(bytes))
        {
            return Strict.GetString(bytes);
        }

        return node.Meaning == ParquetMeaning.Text ? throw new ParquetDamage($"column {node.Path} has a text that is no valid UTF-8") : bytes.ToArray();
    }
}
