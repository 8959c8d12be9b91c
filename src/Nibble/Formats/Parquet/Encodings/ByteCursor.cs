using System.Buffers.Binary;

namespace Nibble.Formats.Parquet.Encodings;

/// <summary>Bytes of a page, read from front to back; never beyond the end.</summary>
internal sealed class ByteCursor(ReadOnlyMemory<byte> data, string column)
{
    private int _at;

    /// <summary>The column, for messages.</summary>
    public string Column => column;

    /// <summary>Bytes that are left.</summary>
    public int Left => data.Length - _at;

    /// <summary>The next bytes.</summary>
    public ReadOnlyMemory<byte> Take(long count)
    {
        if (count < 0 || count > Left)
        {
            throw new ParquetDamage($"a page of column {column} ends early: {count:N0} bytes are needed, {Left:N0} are left");
        }

        _at += (int)count;
        return data.Slice(_at - (int)count, (int)count);
    }

    /// <summary>One byte.</summary>
    public byte Byte() => Take(1).Span[0];

    /// <summary>A 32-bit number.</summary>
    public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Take(4).Span);

    /// <summary>A number of variable length, without sign.</summary>
    public ulong VarInt()
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            byte part = Byte();
            value |= (ulong)(part & 127) << shift;
            if (part < 128)
            {
                return value;
            }
        }

        throw new ParquetDamage($"a page of column {column} has a number of more than 64 bits");
    }

    /// <summary>A number of variable length, with sign.</summary>
    public long ZigZag()
    {
        ulong value = VarInt();
        return (long)(value >> 1) ^ -(long)(value & 1);
    }
}
