using System.Buffers.Binary;
using System.Text;

namespace Nibble.Formats.Parquet;

/// <summary>Data of a Parquet file that breaks the format's rules; becomes a NibbleException where the file is known.</summary>
internal sealed class ParquetDamage(string message) : Exception(message)
{
    /// <summary>True if more bytes could help: the data ended inside of a structure.</summary>
    public bool Ended { get; init; }
}

/// <summary>A structure of Thrift's compact protocol: its fields by number.</summary>
internal sealed class ThriftStruct
{
    private readonly Dictionary<int, object> _fields = [];

    /// <summary>Sets a field.</summary>
    public void Set(int id, object value) => _fields[id] = value;

    /// <summary>True if the field is there.</summary>
    public bool Has(int id) => _fields.ContainsKey(id);

    /// <summary>A whole number.</summary>
    public long Number(int id, long? otherwise = null) => Get<long>(id, otherwise);

    /// <summary>A whole number that counts something.</summary>
    public int Count(int id, int most, string what)
    {
        long value = Number(id);
        return value >= 0 && value <= most ? (int)value : throw new ParquetDamage($"{what} is {value:N0}; at most {most:N0} are read");
    }

    /// <summary>A truth value.</summary>
    public bool Flag(int id, bool otherwise) => Get<bool>(id, otherwise);

    /// <summary>A text.</summary>
    public string Text(int id) => Encoding.UTF8.GetString(Get<byte[]>(id, null));

    /// <summary>A structure.</summary>
    public ThriftStruct Struct(int id) => Get<ThriftStruct>(id, null);

    /// <summary>A structure, or null.</summary>
    public ThriftStruct? Find(int id) => _fields.TryGetValue(id, out object? value) ? value as ThriftStruct : null;

    /// <summary>A list of structures.</summary>
    public IReadOnlyList<ThriftStruct> Structs(int id) =>
        [.. Get<List<object>>(id, null).Select(one => one as ThriftStruct ?? throw new ParquetDamage($"field {id} holds something else than structures"))];

    private T Get<T>(int id, object? otherwise)
    {
        object? value = _fields.GetValueOrDefault(id, otherwise!);
        return value is T typed ? typed : throw new ParquetDamage(value is null ? $"field {id} is missing" : $"field {id} has another type than expected");
    }
}

/// <summary>Reads Thrift's compact protocol; every count is checked against the bytes that are left.</summary>
internal sealed class ThriftReader(ReadOnlyMemory<byte> data)
{
    private const int DeepestNesting = 32;
    private int _at, _depth;

    /// <summary>Bytes read.</summary>
    public int Position => _at;

    /// <summary>Reads a structure.</summary>
    public ThriftStruct Struct()
    {
        Enter();
        ThriftStruct result = new();
        int id = 0;
        while (true)
        {
            byte head = Byte();
            if (head == 0)
            {
                _depth--;
                return result;
            }

            id = head >> 4 == 0 ? (int)ZigZag() : id + (head >> 4);
            result.Set(id, Value(head & 15, inList: false));
        }
    }

    private object Value(int type, bool inList)
    {
        switch (type)
        {
            case 1 or 2:
                return inList ? Byte() == 1 : type == 1;
            case 3:
                return (long)(sbyte)Byte();
            case 4 or 5 or 6:
                return ZigZag();
            case 7:
                return BinaryPrimitives.ReadDoubleLittleEndian(Take(8));
            case 8:
                return Take(Size(VarInt())).ToArray();
            case 9 or 10:
                return List();
            case 11:
                return Map();
            case 12:
                return Struct();
            case 13:
                return Take(16).ToArray();
            default:
                throw new ParquetDamage($"metadata has a value of type {type}, which does not exist");
        }
    }

    private List<object> List()
    {
        byte head = Byte();
        int count = head >> 4 == 15 ? Size(VarInt()) : Size((ulong)(head >> 4));
        return Values(count, head & 15);
    }

    private List<object> Map()
    {
        int count = Size(VarInt());
        byte types = count == 0 ? (byte)0 : Byte();
        Enter();
        List<object> values = [];
        for (int i = 0; i < count; i++)
        {
            values.Add(Value(types >> 4, inList: true));
            values.Add(Value(types & 15, inList: true));
        }

        _depth--;
        return values;
    }

    private List<object> Values(int count, int type)
    {
        Enter();
        // A list may claim as many items as there are bytes left, at every depth: memory comes with the items.
        List<object> values = [];
        for (int i = 0; i < count; i++)
        {
            values.Add(Value(type, inList: true));
        }

        _depth--;
        return values;
    }

    private void Enter()
    {
        if (++_depth > DeepestNesting)
        {
            throw new ParquetDamage("metadata is nested too deeply");
        }
    }

    /// <summary>A count of things of at least one byte each.</summary>
    private int Size(ulong value) =>
        value <= (ulong)(data.Length - _at) ? (int)value : throw new ParquetDamage($"metadata claims {value:N0} bytes or items, {data.Length - _at:N0} bytes are left") { Ended = true };

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > data.Length - _at)
        {
            throw new ParquetDamage("metadata ends early") { Ended = true };
        }

        _at += count;
        return data.Span.Slice(_at - count, count);
    }

    private byte Byte() => Take(1)[0];

    private long ZigZag()
    {
        ulong value = VarInt();
        return (long)(value >> 1) ^ -(long)(value & 1);
    }

    private ulong VarInt()
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

        throw new ParquetDamage("metadata has a number of more than 64 bits");
    }
}
