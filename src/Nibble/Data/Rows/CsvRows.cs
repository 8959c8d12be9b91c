using CsvHelper;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>Rows of CSV and TSV: names in the first line, quotes as RFC 4180 has them; every field is a text.</summary>
internal static class CsvRows
{
    /// <summary>All rows; <see cref="RowRead.Place"/> is the line in which a row begins.</summary>
    public static IEnumerable<RowRead> Read(Stream stream, char separator, Limits limits)
    {
        string? quotes = null;
        CsvReaderOptions options = new()
        {
            Separator = separator,
            TrackLineNumbers = true,
            MaxRecordSize = (int)Math.Min(limits.RowBytes, int.MaxValue / 2),
            OnMalformedRecord = record => quotes = $"its quotes are wrong ({record.Reason})",
        };
        using CsvReader reader = CsvReader.Create(stream, options, leaveOpen: true);
        while (true)
        {
            quotes = null;
            RowRead? row = Next(reader, ref quotes);
            if (row is null)
            {
                yield break;
            }

            yield return row;
            if (row.Place < 0)
            {
                yield break;
            }
        }
    }

    private static RowRead? Next(CsvReader reader, ref string? quotes)
    {
        try
        {
            return reader.Read() ? Row(reader, quotes) : null;
        }
        catch (CsvFormatException error)
        {
            // The reader stops at what it can't pass: a record without an end.
            return new RowRead(-Math.Max(1, error.LineNumber), null, error.Message.Split('\n')[0].TrimEnd('\r', '.'));
        }
    }

    private static RowRead Row(CsvReader reader, string? problem)
    {
        problem ??= reader.FieldCount != reader.Headers.Count ? $"{reader.FieldCount} fields, the first line names {reader.Headers.Count}"
            : !System.Text.Unicode.Utf8.IsValid(reader.RawRecord) ? "no valid UTF-8" : null;
        if (problem is not null)
        {
            return new RowRead(reader.LineNumber, null, problem);
        }

        OrderedDictionary<string, object?> row = new(StringComparer.Ordinal);
        for (int i = 0; i < reader.FieldCount; i++)
        {
            row[reader.Headers[i]] = reader.GetString(i);
        }

        return new RowRead(reader.LineNumber, row);
    }
}
