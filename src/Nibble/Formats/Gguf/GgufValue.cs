using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>Types of metadata; the values are those of the file.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "the names are the format's own")]
public enum GgufKind
{
    /// <summary>Unsigned, 1 byte.</summary>
    U8 = 0,

    /// <summary>Signed, 1 byte.</summary>
    I8 = 1,

    /// <summary>Unsigned, 2 bytes.</summary>
    U16 = 2,

    /// <summary>Signed, 2 bytes.</summary>
    I16 = 3,

    /// <summary>Unsigned, 4 bytes.</summary>
    U32 = 4,

    /// <summary>Signed, 4 bytes.</summary>
    I32 = 5,

    /// <summary>Single precision.</summary>
    F32 = 6,

    /// <summary>One byte, 0 or 1.</summary>
    Bool = 7,

    /// <summary>UTF-8 text.</summary>
    String = 8,

    /// <summary>Values of one type.</summary>
    Array = 9,

    /// <summary>Unsigned, 8 bytes.</summary>
    U64 = 10,

    /// <summary>Signed, 8 bytes.</summary>
    I64 = 11,

    /// <summary>Double precision.</summary>
    F64 = 12,
}

/// <summary>
/// One value of a file's metadata: where it stands. It is read when it is asked for, so that a vocabulary of 128,000 tokens costs
/// nothing until somebody wants it; its lengths were checked when the file was opened.
/// </summary>
public sealed class GgufValue
{
    private readonly MappedFile _map;
    private readonly nint _offset;

    internal GgufValue(MappedFile map, string key, GgufKind kind, GgufKind element, long count, nint offset)
    {
        (_map, _offset) = (map, offset);
        (Key, Kind, ElementKind, Count) = (key, kind, element, count);
    }

    /// <summary>The key.</summary>
    public string Key { get; }

    /// <summary>The type.</summary>
    public GgufKind Kind { get; }

    /// <summary>The type of an array's elements; of a scalar its own.</summary>
    public GgufKind ElementKind { get; }

    /// <summary>Elements of an array; 1 for a scalar.</summary>
    public long Count { get; }

    /// <summary>True for an array.</summary>
    public bool IsArray => Kind == GgufKind.Array;

    internal static int SizeOf(GgufKind kind) => kind switch
    {
        GgufKind.U8 or GgufKind.I8 or GgufKind.Bool => 1,
        GgufKind.U16 or GgufKind.I16 => 2,
        GgufKind.U32 or GgufKind.I32 or GgufKind.F32 => 4,
        GgufKind.U64 or GgufKind.I64 or GgufKind.F64 => 8,
        _ => 0,
    };

    /// <summary>A whole number of any integer type.</summary>
    public long Integer()
    {
        Require(Count == 1, "a whole number");
        return Integers()[0];
    }

    /// <summary>The whole numbers of an array (a scalar counts as one of one element).</summary>
    public long[] Integers()
    {
        Require(ElementKind is not (GgufKind.String or GgufKind.Array or GgufKind.F32 or GgufKind.F64 or GgufKind.Bool), "whole numbers");
        return Read(bytes => ElementKind switch
        {
            GgufKind.U8 => bytes[0],
            GgufKind.I8 => (sbyte)bytes[0],
            GgufKind.U16 => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
            GgufKind.I16 => BinaryPrimitives.ReadInt16LittleEndian(bytes),
            GgufKind.U32 => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            GgufKind.I32 => BinaryPrimitives.ReadInt32LittleEndian(bytes),
            GgufKind.I64 => BinaryPrimitives.ReadInt64LittleEndian(bytes),
            _ => BinaryPrimitives.ReadUInt64LittleEndian(bytes) is var value && value <= long.MaxValue ? (long)value : TooLarge(value),
        });
    }

    /// <summary>Numbers of a floating point type (a scalar counts as one of one element).</summary>
    public double[] Numbers()
    {
        if (ElementKind is not (GgufKind.F32 or GgufKind.F64))
        {
            return [.. Integers().Select(value => (double)value)];
        }

        return Read(bytes => ElementKind == GgufKind.F32 ? BinaryPrimitives.ReadSingleLittleEndian(bytes) : BinaryPrimitives.ReadDoubleLittleEndian(bytes));
    }

    /// <summary>True or false.</summary>
    public bool Boolean()
    {
        Require(Kind == GgufKind.Bool, "true or false");
        return _map.Span(_offset, 1)[0] != 0;
    }

    /// <summary>A text.</summary>
    public string Text()
    {
        Require(Kind == GgufKind.String, "a text");
        return Texts()[0];
    }

    /// <summary>The texts of an array (a scalar counts as one of one element).</summary>
    public string[] Texts()
    {
        Require(ElementKind == GgufKind.String, "texts");
        GgufCursor cursor = new(_map) { At = _offset };
        string[] texts = new string[Count];
        for (int i = 0; i < texts.Length; i++)
        {
            texts[i] = cursor.Text($"element {i:N0} of {Key}");
        }

        return texts;
    }

    /// <summary>A short form for people.</summary>
    public override string ToString() => IsArray ? $"{Count:N0} × {ElementKind}" : Kind switch
    {
        GgufKind.String => Text(),
        GgufKind.Bool => Boolean() ? "true" : "false",
        GgufKind.F32 => ((float)Numbers()[0]).ToString(CultureInfo.InvariantCulture),
        GgufKind.F64 => Numbers()[0].ToString(CultureInfo.InvariantCulture),
        GgufKind.U64 => BinaryPrimitives.ReadUInt64LittleEndian(_map.Span(_offset, 8)).ToString(CultureInfo.InvariantCulture),
        _ => Integer().ToString(CultureInfo.InvariantCulture),
    };

    [DoesNotReturn]
    internal void Refuse(string why) => Throw.BadInput($"{_map.Path}: {Key} = {Shown()}", why, "the file is damaged, or was written by a faulty tool");

    private delegate T Element<T>(ReadOnlySpan<byte> bytes);

    private T[] Read<T>(Element<T> read)
    {
        int size = SizeOf(ElementKind);
        T[] values = new T[Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = read(_map.Span(_offset + ((nint)i * size), size));
        }

        return values;
    }

    private string Shown() => ToString() is { Length: > 60 } text ? text[..60] + "…" : ToString();

    private long TooLarge(ulong value)
    {
        Throw.BadInput($"{_map.Path}: {Key} holds {value}", "it is larger than any count can be");
        return 0;
    }

    private void Require(bool fits, string expected)
    {
        if (!fits)
        {
            Throw.BadInput($"{_map.Path}: {Key} is {(IsArray ? $"an array of {ElementKind}" : $"of type {Kind}")}", $"expected {expected}", "the file is damaged, or was written by a faulty tool");
        }
    }
}
