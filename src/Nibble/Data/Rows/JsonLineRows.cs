using System.Text;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>Rows of JSON lines.</summary>
internal static class JsonLineRows
{
    /// <summary>All rows; blank lines are none.</summary>
    public static IEnumerable<RowRead> Read(LineReader lines, Limits limits)
    {
        while (lines.Next(out bool tooLong) is { } line)
        {
            if (Row(lines.Number, line, tooLong, limits) is { } row)
            {
                yield return row;
            }
        }
    }

    /// <summary>The rows of lines that begin before a byte of the file; their places are the bytes at which they begin.</summary>
    /// <param name="lines">A reader that stands where a line begins.</param>
    /// <param name="origin">The byte of the file at which the reader began.</param>
    /// <param name="to">The first byte that belongs to somebody else.</param>
    /// <param name="limits">Ceilings.</param>
    public static IEnumerable<RowRead> Read(LineReader lines, long origin, long to, Limits limits)
    {
        for (long start = origin + lines.Position; start < to && lines.Next(out bool tooLong) is { } line; start = origin + lines.Position)
        {
            if (Row(start, line, tooLong, limits) is { } row)
            {
                yield return row;
            }
        }
    }

    /// <summary>One row.</summary>
    public static RowRead Row(long number, ReadOnlyMemory<byte> json, Limits limits)
    {
        if (!System.Text.Unicode.Utf8.IsValid(json.Span))
        {
            return new RowRead(number, null, "no valid UTF-8");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = limits.JsonDepth });
            return Row(number, document.RootElement);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return new RowRead(number, null, "not JSON: " + Reason(error));
        }
    }

    /// <summary>A row of a parsed value.</summary>
    public static RowRead Row(long number, JsonElement element) => element.ValueKind == JsonValueKind.Object
        ? new RowRead(number, JsonValues.Map(element))
        : new RowRead(number, null, $"a JSON {element.ValueKind}, not an object");

    /// <summary>What is wrong, and where in the line; the parser's own place counts lines of this row only.</summary>
    private static string Reason(Exception error)
    {
        string what = error.Message.Split(" LineNumber:", 2)[0].TrimEnd('.', ' ');
        return error is JsonException { BytePositionInLine: { } place } ? $"{what} (byte {place + 1} of the line)" : what;
    }

    private static RowRead? Row(long place, ReadOnlyMemory<byte> line, bool tooLong, Limits limits) =>
        tooLong ? new RowRead(place, null, $"longer than {limits.RowBytes:N0} bytes") : IsBlank(line.Span) ? null : Row(place, line, limits);

    private static bool IsBlank(ReadOnlySpan<byte> line) => line.IndexOfAnyExcept((byte)' ', (byte)'\t', (byte)'\r') < 0;
}
