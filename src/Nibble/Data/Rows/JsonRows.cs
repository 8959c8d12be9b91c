using System.Text.Json;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>Rows of a <c>.json</c> file: an array of objects, an object that holds one such array, or in truth JSON lines.</summary>
internal static class JsonRows
{
    /// <summary>All rows.</summary>
    public static IEnumerable<RowRead> Read(Stream stream, Limits limits)
    {
        PeekStream peeked = new(stream);
        return peeked.FirstCharacter() switch
        {
            '[' => Array(peeked, limits),
            '{' => Lines(peeked, limits),
            '\0' => [],
            _ => [new RowRead(1, null, "not JSON: neither an array nor an object begins the file")],
        };
    }

    /// <summary>The elements of an array, one in memory at a time.</summary>
    private static IEnumerable<RowRead> Array(Stream stream, Limits limits)
    {
        using IEnumerator<JsonElement> elements = DocumentJson.Elements(stream, limits.JsonDepth).GetEnumerator();
        for (long number = 1; ; number++)
        {
            RowRead? row = Element(elements, number);
            if (row is null)
            {
                yield break;
            }

            yield return row;
            if (row.Problem?.StartsWith("not JSON", StringComparison.Ordinal) == true)
            {
                // What follows damage in an array can't be told apart.
                yield break;
            }
        }
    }

    private static RowRead? Element(IEnumerator<JsonElement> elements, long number)
    {
        try
        {
            return elements.MoveNext() ? JsonLineRows.Row(number, elements.Current) : null;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return new RowRead(number, null, "not JSON, and nothing after it can be read: " + error.Message);
        }
    }

    private static IEnumerable<RowRead> Lines(PeekStream stream, Limits limits)
    {
        LineReader lines = new(stream, limits);
        if (lines.Next(out bool tooLong) is not { } first)
        {
            return [];
        }

        RowRead row = tooLong ? new RowRead(1, null, "too long") : JsonLineRows.Row(1, first, limits);
        return row.Problem is null && !IsWrapper(row) ? JsonLineRows.Read(lines, limits).Prepend(row) : Document(first, lines, limits);
    }

    private static bool IsWrapper(RowRead row) => row.Fields!.Count == 1 && row.Fields.Values.First() is IReadOnlyList<object?> list && list.Count > 0 && list.All(one => one is IReadOnlyDictionary<string, object?>)
        && row.Fields.Keys.First() is not ("messages" or "conversations");

    /// <summary>One object over many lines: its only array of objects, else itself.</summary>
    private static IEnumerable<RowRead> Document(ReadOnlyMemory<byte> first, LineReader lines, Limits limits)
    {
        using MemoryStream whole = new();
        whole.Write(first.Span);
        while (lines.Next(out bool tooLong) is { } line)
        {
            if (tooLong || whole.Length + line.Length > limits.RowBytes)
            {
                return [new RowRead(1, null, $"one JSON object of more than {limits.RowBytes:N0} bytes")];
            }

            whole.WriteByte((byte)'\n');
            whole.Write(line.Span);
        }

        RowRead row = JsonLineRows.Row(1, whole.ToArray(), limits);
        IReadOnlyDictionary<string, object?>[][] lists = [.. (row.Fields?.Values ?? []).OfType<IReadOnlyList<object?>>()
            .Where(list => list.Count > 0 && list.All(one => one is IReadOnlyDictionary<string, object?>)).Select(list => list.Cast<IReadOnlyDictionary<string, object?>>().ToArray())];
        return lists.Length == 1 && (IsWrapper(row) || row.Fields!.Count > 1 && !row.Fields.ContainsKey("messages") && !row.Fields.ContainsKey("conversations"))
            ? lists[0].Select((fields, i) => new RowRead(i + 1, fields))
            : [row];
    }

    /// <summary>A stream whose first characters can be looked at before it is read.</summary>
    private sealed class PeekStream(Stream inner) : Stream
    {
        private readonly byte[] _head = new byte[4096];
        private int _at, _count;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        /// <summary>The first character that is no white space; 0 if there is none near.</summary>
        public char FirstCharacter()
        {
            _count = inner.ReadAtLeast(_head, _head.Length, throwOnEndOfStream: false);
            int start = _head.AsSpan(0, _count).StartsWith(System.Text.Encoding.UTF8.Preamble) ? 3 : 0;
            int found = _head.AsSpan(start, _count - start).IndexOfAnyExcept(" \t\r\n"u8);
            _at = start;
            return found < 0 ? '\0' : (char)_head[start + found];
        }

        public override int Read(byte[] buffer, int offset, int count)
        {
            int left = Math.Min(count, _count - _at);
            if (left == 0)
            {
                return inner.Read(buffer, offset, count);
            }

            _head.AsSpan(_at, left).CopyTo(buffer.AsSpan(offset));
            _at += left;
            return left;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
