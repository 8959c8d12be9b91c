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
            if (tooLong)
            {
                yield return new RowRead(lines.Number, null, $"longer than {limits.RowBytes:N0} bytes");
            }
            else if (!IsBlank(line.Span))
            {
                yield return Row(lines.Number, line, limits);
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

    /// <summary>True for a line without content.</summary>
    public static bool IsBlank(ReadOnlySpan<byte> line) => line.IndexOfAnyExcept((byte)' ', (byte)'\t', (byte)'\r') < 0;
}
