using Nibble.Formats.Parquet.Encodings;
using Nibble.IO;

namespace Nibble.Formats.Parquet;

/// <summary>Reads the pages of one column of a row group.</summary>
internal sealed class PageReader
{
    private const int MostHeaderBytes = 1 << 20;
    private readonly string _column;
    private readonly ReadBytes _read;
    private readonly Limits _limits;
    private readonly int _codec;
    private readonly long _end;
    private long _at, _left;
    private object?[]? _dictionary;

    /// <summary>Prepares to read; <paramref name="chunk"/> is the footer's structure ColumnChunk.</summary>
    public PageReader(ThriftStruct chunk, string column, long length, ReadBytes read, Limits limits)
    {
        (_column, _read, _limits) = (column, read, limits);
        if (chunk.Has(8) || chunk.Has(9) || chunk.Has(1))
        {
            throw new ParquetDamage($"column {column} is {(chunk.Has(1) ? "stored in another file" : "encrypted")}");
        }

        ThriftStruct facts = chunk.Struct(3);
        _codec = facts.Count(4, 7, "a codec");
        _left = facts.Number(5);
        long first = facts.Number(9), dictionary = facts.Number(11, 0L), size = facts.Number(7);
        _at = dictionary > 0 && dictionary < first ? dictionary : first;
        if (_left < 0 || _at < 4 || size < 0 || size > length - _at)
        {
            throw new ParquetDamage($"column {column} claims {size:N0} bytes at {_at:N0} and {_left:N0} values; the file has {length:N0} bytes");
        }

        _end = _at + size;
    }

    /// <summary>The next page of data, or null.</summary>
    public DataPage? Next(ParquetNode node)
    {
        while (_left > 0)
        {
            if (_at >= _end)
            {
                throw new ParquetDamage($"column {_column} has {_left:N0} values less than it claims");
            }

            ThriftStruct header = Header();
            int size = header.Count(3, (int)Math.Min(_end - _at, _limits.ParquetPageBytes), $"the size of a page of column {_column}");
            byte[] bytes = new byte[size];
            _read(_at, bytes);
            _at += size;
            switch (header.Number(1))
            {
                case 0:
                    return Counted(PageV1(header, bytes, node));
                case 2:
                    Dictionary(header, bytes, node);
                    break;
                case 3:
                    return Counted(PageV2(header, bytes, node));
            }
        }

        return null;
    }

    private DataPage Counted(DataPage page)
    {
        _left -= page.Count;
        return page;
    }

    private ThriftStruct Header()
    {
        for (int window = 512; ; window *= 8)
        {
            int size = (int)Math.Min(window, _end - _at);
            byte[] bytes = new byte[size];
            _read(_at, bytes);
            try
            {
                ThriftReader reader = new(bytes);
                ThriftStruct header = reader.Struct();
                _at += reader.Position;
                return header;
            }
            catch (ParquetDamage damage) when (damage.Ended && size < _end - _at && window < MostHeaderBytes)
            {
                // The header is longer than the window: statistics may hold whole values.
            }
        }
    }

    private int CountOf(ThriftStruct header) => header.Count(1, (int)Math.Min(_left, _limits.ParquetPageValues), $"the number of values of a page of column {_column}");

    private void Dictionary(ThriftStruct header, byte[] bytes, ParquetNode node)
    {
        ThriftStruct facts = header.Struct(7);
        int count = facts.Count(1, _limits.ParquetPageValues, $"the number of values of the dictionary of column {_column}");
        if (facts.Number(2) is not (0 or 2))
        {
            throw new ParquetDamage($"the dictionary of column {_column} has encoding {facts.Number(2)}");
        }

        ReadOnlyMemory<byte> values = Unpack(bytes, header.Count(2, _limits.ParquetPageBytes, "the unpacked size of a page"));
        _dictionary = PlainValues.Read(new ByteCursor(values, _column), node, count);
    }

    private DataPage PageV1(ThriftStruct header, byte[] bytes, ParquetNode node)
    {
        ThriftStruct facts = header.Struct(5);
        int count = CountOf(facts);
        ByteCursor data = new(Unpack(bytes, header.Count(2, _limits.ParquetPageBytes, "the unpacked size of a page")), _column);
        int[]? repetitions = Levels(data, node.RepetitionLevel, count, facts.Number(4));
        int[]? definitions = Levels(data, node.Definition, count, facts.Number(3));
        return Page(data, node, count, repetitions, definitions, facts.Number(2));
    }

    private DataPage PageV2(ThriftStruct header, byte[] bytes, ParquetNode node)
    {
        ThriftStruct facts = header.Struct(8);
        int count = CountOf(facts);
        int definitionBytes = facts.Count(5, bytes.Length, "the size of levels"), repetitionBytes = facts.Count(6, bytes.Length - definitionBytes, "the size of levels");
        ReadOnlyMemory<byte> all = bytes;
        int[]? repetitions = Levels(new ByteCursor(all[..repetitionBytes], _column), node.RepetitionLevel, count);
        int[]? definitions = Levels(new ByteCursor(all.Slice(repetitionBytes, definitionBytes), _column), node.Definition, count);
        int levels = repetitionBytes + definitionBytes;
        int unpacked = header.Count(2, _limits.ParquetPageBytes, "the unpacked size of a page") - levels;
        ReadOnlyMemory<byte> values = facts.Flag(7, true) ? Unpack(bytes[levels..], Math.Max(unpacked, 0)) : all[levels..];
        return Page(new ByteCursor(values, _column), node, count, repetitions, definitions, facts.Number(4));
    }

    private DataPage Page(ByteCursor data, ParquetNode node, int count, int[]? repetitions, int[]? definitions, long encoding)
    {
        int defined = definitions is null ? count : definitions.Count(level => level == node.Definition);
        return new DataPage(count, repetitions, definitions, defined == 0 ? [] : ValueDecoder.Read(data, node, defined, encoding, _dictionary));
    }

    /// <summary>Levels of a page of version 1: their size stands before them.</summary>
    private int[]? Levels(ByteCursor data, int highest, int count, long encoding)
    {
        if (highest == 0)
        {
            return null;
        }

        if (encoding != 3)
        {
            throw new ParquetDamage($"column {_column} has levels in the encoding {encoding}, which writers gave up in 2014");
        }

        return Levels(new ByteCursor(data.Take(data.Int32()), _column), highest, count);
    }

    private int[]? Levels(ByteCursor data, int highest, int count)
    {
        if (highest == 0)
        {
            return null;
        }

        int[] levels = RunLength.Read(data, RunLength.WidthOf(highest), count);
        return levels.Any(level => level > highest) ? throw new ParquetDamage($"column {_column} has a level above {highest}") : levels;
    }

    private ReadOnlyMemory<byte> Unpack(byte[] bytes, int size) => PageCodec.Unpack(_codec, bytes, size, _column);
}
