using System.Buffers.Binary;
using Nibble.IO;

namespace Nibble.Formats.Parquet;

/// <summary>Reads bytes of a file at a place; fails if there are fewer.</summary>
internal delegate void ReadBytes(long offset, Span<byte> into);

/// <summary>A part of the rows, all columns of it stored together.</summary>
/// <param name="Rows">Its rows.</param>
/// <param name="Columns">The footer's facts of each column.</param>
internal sealed record ParquetRowGroup(long Rows, IReadOnlyList<ThriftStruct> Columns);

/// <summary>
/// Reads Apache Parquet (https://parquet.apache.org/docs/file-format): nested columns, pages of version 1 and 2, all encodings that
/// current writers use, codecs none, snappy, gzip, brotli and (with the system's libzstd) zstd. One page of a column is in memory
/// at a time. Encrypted files are refused.
/// </summary>
internal sealed class ParquetFile : IDisposable
{
    private readonly string _name;
    private readonly long _length;
    private readonly ReadBytes _read;
    private readonly Limits _limits;
    private readonly IReadOnlyList<ParquetNode> _fields;

    private ParquetFile(string name, long length, ReadBytes read, ThriftStruct footer, Limits limits)
    {
        (_name, _length, _read, _limits) = (name, length, read, limits);
        _fields = ParquetSchema.Read(footer.Structs(2));
        RowGroups = [.. footer.Structs(4).Select(group => new ParquetRowGroup(group.Number(3), group.Structs(1)))];
        int columns = _fields.Sum(field => field.Leaves.Count());
        if (RowGroups.Any(group => group.Rows < 0 || group.Rows > long.MaxValue / RowGroups.Count || group.Columns.Count != columns))
        {
            throw new ParquetDamage($"a row group has another number of columns than the schema ({columns}), or a number of rows that cannot be");
        }
    }

    /// <summary>The row groups.</summary>
    public IReadOnlyList<ParquetRowGroup> RowGroups { get; }

    /// <summary>Rows of the whole file.</summary>
    public long RowCount => RowGroups.Sum(group => group.Rows);

    /// <summary>Opens a file on this machine.</summary>
    public static ParquetFile Open(string path, Limits? limits = null)
    {
        Data.Sources.LocalObject file = new(path);
        return Open(path, file.Length, file.ReadAt, limits ?? Limits.Default);
    }

    /// <summary>Opens a file by what reads its bytes.</summary>
    /// <exception cref="NibbleException">It is no Parquet file, damaged, or encrypted.</exception>
    public static ParquetFile Open(string name, long length, ReadBytes read, Limits limits)
    {
        try
        {
            return new ParquetFile(name, length, read, Footer(length, read, limits), limits);
        }
        catch (ParquetDamage damage)
        {
            throw Refusal(name, damage);
        }
    }

    /// <summary>The rows of a group, one after the other.</summary>
    /// <exception cref="NibbleException">The data breaks the format's rules.</exception>
    public IEnumerable<IReadOnlyDictionary<string, object?>> Rows(int group)
    {
        RecordReader reader = Guard(() => new RecordReader(_fields, Columns(group)));
        for (long row = 0; row < RowGroups[group].Rows; row++)
        {
            yield return Guard(reader.Next);
        }
    }

    /// <summary>Nothing is held open; here for the shape of readers.</summary>
    public void Dispose()
    {
    }

    private static ThriftStruct Footer(long length, ReadBytes read, Limits limits)
    {
        Span<byte> tail = stackalloc byte[8];
        if (length < 12)
        {
            throw new ParquetDamage($"it has {length} bytes");
        }

        read(length - 8, tail);
        if (tail[4..].SequenceEqual("PARE"u8))
        {
            throw new ParquetDamage("its footer is encrypted");
        }

        if (!tail[4..].SequenceEqual("PAR1"u8))
        {
            throw new ParquetDamage("it does not end in PAR1: it is truncated, or no Parquet file");
        }

        long size = BinaryPrimitives.ReadUInt32LittleEndian(tail);
        if (size > length - 12 || size > limits.ParquetFooterBytes)
        {
            throw new ParquetDamage($"its footer claims {size:N0} bytes; the file has {length:N0}, at most {limits.ParquetFooterBytes:N0} are read");
        }

        byte[] footer = new byte[size];
        read(length - 8 - size, footer);
        return new ThriftReader(footer).Struct();
    }

    private ColumnCursor[] Columns(int group)
    {
        ParquetNode[] leaves = [.. _fields.SelectMany(field => field.Leaves)];
        return [.. leaves.Select((leaf, i) => new ColumnCursor(leaf, new PageReader(RowGroups[group].Columns[i], leaf.Path, _length, _read, _limits)))];
    }

    private T Guard<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (ParquetDamage damage)
        {
            throw Refusal(_name, damage);
        }
    }

    private static NibbleException Refusal(string name, ParquetDamage damage) =>
        new(ErrorKind.BadInput, $"{name} can't be read as Parquet", damage.Message, "get the file again, or write it again with pyarrow (compression snappy, gzip or none)", damage);
}
