using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using System.Text.Unicode;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>
/// Reads and checks a safetensors header. The reader is our own walk over the JSON tokens, because general JSON readers keep
/// the last of two equal keys without a word, and two readers that keep different ones see different tensors in one file.
/// </summary>
internal sealed class SafetensorsHeader
{
    private const int LengthBytes = 8;
    private const string MetadataKey = "__metadata__";

    private readonly string _file;
    private readonly Limits _limits;
    private readonly long _fileLength;

    private SafetensorsHeader(string file, long fileLength, Limits limits)
    {
        _file = file;
        _fileLength = fileLength;
        _limits = limits;
    }

    public Dictionary<string, SafetensorsEntry> Entries { get; } = new(StringComparer.Ordinal);

    public Dictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

    /// <summary>First byte of the data.</summary>
    public long DataOffset { get; private set; }

    public static SafetensorsHeader Read(MappedFile map, Limits limits)
    {
        SafetensorsHeader header = new(map.Path, map.ByteLength, limits);
        int length = header.ReadLength(map);
        header.DataOffset = LengthBytes + length;
        header.ReadJson(map.Span(LengthBytes, length));
        header.CheckLayout();
        return header;
    }

    private int ReadLength(MappedFile map)
    {
        if (_fileLength < LengthBytes)
        {
            Refuse($"header too small: the file has {_fileLength} bytes, the length of the header alone takes {LengthBytes}");
        }

        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(map.Span(0, LengthBytes));
        long limit = Math.Min(_limits.SafetensorsHeaderBytes, int.MaxValue);
        if (length > (ulong)limit)
        {
            Refuse($"header too large: it claims {length:N0} bytes, at most {limit:N0} are read");
        }

        if ((long)length > _fileLength - LengthBytes)
        {
            Refuse($"invalid header length: header of {length:N0} bytes, but only {_fileLength - LengthBytes:N0} bytes follow the length field");
        }

        return (int)length;
    }

    private void ReadJson(ReadOnlySpan<byte> json)
    {
        if (!Utf8.IsValid(json))
        {
            Refuse("invalid header: it is not UTF-8");
        }

        Utf8JsonReader reader = new(json, new JsonReaderOptions { MaxDepth = _limits.JsonDepth });
        try
        {
            Expect(ref reader, JsonTokenType.StartObject, "the header");
            ReadMembers(ref reader);
            if (reader.Read())
            {
                RefuseJson("something follows the header's object");
            }
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: an escape that is no valid text, such as a lone surrogate.
            RefuseJson(error.Message, error);
        }
    }

    private void ReadMembers(ref Utf8JsonReader reader)
    {
        bool metadataSeen = false;
        while (NextProperty(ref reader, out string? name))
        {
            if (name == MetadataKey)
            {
                if (metadataSeen)
                {
                    Refuse($"duplicate key: {MetadataKey} appears twice");
                }

                metadataSeen = true;
                ReadMetadata(ref reader);
                continue;
            }

            if (Entries.ContainsKey(name))
            {
                Refuse($"duplicate key: tensor {Quote(name)} appears twice");
            }

            if (Entries.Count >= _limits.Tensors)
            {
                Refuse($"too many tensors: at most {_limits.Tensors:N0} are read");
            }

            Entries.Add(name, ReadEntry(ref reader, name));
        }
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        Expect(ref reader, JsonTokenType.StartObject, MetadataKey);
        while (NextProperty(ref reader, out string? key))
        {
            Expect(ref reader, JsonTokenType.String, $"{MetadataKey}.{key}");
            if (!Metadata.TryAdd(key, reader.GetString()!))
            {
                Refuse($"duplicate key: {Quote(key)} appears twice in {MetadataKey}");
            }
        }
    }

    private SafetensorsEntry ReadEntry(ref Utf8JsonReader reader, string name)
    {
        string? dtype = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        Expect(ref reader, JsonTokenType.StartObject, $"tensor {Quote(name)}");
        while (NextProperty(ref reader, out string? key))
        {
            switch (key)
            {
                case "dtype" when dtype == null:
                    Expect(ref reader, JsonTokenType.String, $"dtype of tensor {Quote(name)}");
                    dtype = reader.GetString()!;
                    break;
                case "shape" when shape == null:
                    shape = ReadNumbers(ref reader, $"shape of tensor {Quote(name)}");
                    break;
                case "data_offsets" when offsets == null:
                    offsets = ReadNumbers(ref reader, $"data_offsets of tensor {Quote(name)}");
                    break;
                case "dtype" or "shape" or "data_offsets":
                    Refuse($"duplicate key: tensor {Quote(name)} has {key} twice");
                    break;
                default:
                    RefuseJson($"tensor {Quote(name)} has the unknown key {Quote(key)}");
                    break;
            }
        }

        if (dtype == null || shape == null || offsets == null)
        {
            RefuseJson($"tensor {Quote(name)} lacks {(dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets")}");
        }

        return CheckEntry(name, dtype, shape, offsets);
    }

    private SafetensorsEntry CheckEntry(string name, string dtype, List<long> shape, List<long> offsets)
    {
        int rank = SafetensorsDType.Rank(dtype);
        if (rank < 0)
        {
            Refuse($"unknown dtype {Quote(dtype)} of tensor {Quote(name)}; the format knows {SafetensorsDType.Names}");
        }

        if (offsets.Count != 2)
        {
            RefuseJson($"data_offsets of tensor {Quote(name)} has {offsets.Count} numbers, expected 2");
        }

        string shapeText = "[" + string.Join(", ", shape) + "]";
        long begin = offsets[0], end = offsets[1];
        if (end < begin)
        {
            Refuse($"invalid offsets: tensor {Quote(name)} ends at {end:N0}, before it begins at {begin:N0}");
        }

        Int128 bits = SafetensorsDType.Bits(rank);
        foreach (long extent in shape)
        {
            bits *= extent;
            if (bits > long.MaxValue)
            {
                // A later zero would make the product small again, but no allocation of a part could be right.
                Refuse($"overflow: tensor {Quote(name)}, {dtype} {shapeText}, has more bits than a 64-bit number counts");
            }
        }

        if (bits % 8 != 0)
        {
            Refuse($"misaligned: tensor {Quote(name)}, {dtype} {shapeText}, takes {bits} bits, which is no whole number of bytes");
        }

        if (end - begin != bits / 8)
        {
            Refuse($"size mismatch: tensor {Quote(name)}, {dtype} {shapeText}, takes {bits / 8:N0} bytes, but its offsets {begin:N0} to {end:N0} hold {end - begin:N0}");
        }

        return new SafetensorsEntry(name, dtype, SafetensorsDType.Type(rank), shape, begin, end - begin);
    }

    /// <summary>No hole, no overlap, and the last tensor ends where the file ends; then makes the offsets absolute.</summary>
    private void CheckLayout()
    {
        SafetensorsEntry[] sorted = Entries.Values.OrderBy(entry => entry.Offset).ThenBy(entry => entry.ByteLength).ToArray();
        long end = 0;
        string previous = "the beginning of the data";
        foreach (SafetensorsEntry entry in sorted)
        {
            if (entry.Offset != end)
            {
                string kind = entry.Offset < end ? "overlap" : "hole";
                Refuse($"invalid offsets ({kind}): tensor {Quote(entry.Name)} begins at {entry.Offset:N0}, but {previous} ends at {end:N0}");
            }

            end = entry.Offset + entry.ByteLength;
            previous = $"tensor {Quote(entry.Name)}";
            Entries[entry.Name] = entry with { Offset = DataOffset + entry.Offset };
        }

        long present = _fileLength - DataOffset;
        if (end != present)
        {
            string why = end > present ? "the file is cut short" : "bytes follow the last tensor";
            Refuse($"metadata incomplete: the tensors take {end:N0} bytes, the file has {present:N0} after its header: {why}");
        }
    }

    private List<long> ReadNumbers(ref Utf8JsonReader reader, string what)
    {
        List<long> numbers = [];
        Expect(ref reader, JsonTokenType.StartArray, what);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number)
            {
                RefuseJson($"{what}: expected whole numbers, found {reader.TokenType}");
            }

            if (!reader.TryGetInt64(out long number) || reader.ValueSpan[0] == '-')
            {
                string text = System.Text.Encoding.UTF8.GetString(reader.ValueSpan);
                bool digits = text.All(char.IsAsciiDigit);
                RefuseNumber(what, text, digits);
            }

            numbers.Add(number);
        }

        return numbers;
    }

    [DoesNotReturn]
    private void RefuseNumber(string what, string text, bool tooLarge)
    {
        text = text.Length > 40 ? text[..40] + "…" : text;
        if (tooLarge)
        {
            Refuse($"overflow: {what}: {text} is beyond 64 bits");
        }

        RefuseJson($"{what}: {text} is no whole number ≥ 0");
    }

    private void Expect(ref Utf8JsonReader reader, JsonTokenType type, string what)
    {
        if (!reader.Read())
        {
            RefuseJson($"{what}: the text ends early");
        }

        if (reader.TokenType != type)
        {
            RefuseJson($"{what}: expected {type}, found {reader.TokenType}");
        }
    }

    private static bool NextProperty(ref Utf8JsonReader reader, [NotNullWhen(true)] out string? name)
    {
        name = reader.Read() && reader.TokenType == JsonTokenType.PropertyName ? reader.GetString() : null;
        return name != null;
    }

    private static string Quote(string name)
    {
        string text = string.Concat(name.Select(c => char.IsControl(c) ? string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}") : c.ToString()));
        return text.Length > 200 ? $"'{text[..200]}…'" : $"'{text}'";
    }

    [DoesNotReturn]
    private void RefuseJson(string detail, Exception? inner = null) => Refuse($"invalid JSON in the header: {detail}", inner);

    [DoesNotReturn]
    private void Refuse(string why, Exception? inner = null) => Throw.BadInput(
        $"{_file} is not a valid safetensors file", why, "download or convert the file again", inner);
}
