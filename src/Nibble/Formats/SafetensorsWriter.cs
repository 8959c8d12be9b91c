using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>One tensor that a <see cref="SafetensorsWriter"/> is going to write.</summary>
/// <param name="Name">The tensor's name.</param>
/// <param name="DTypeName">The element type as the format names it.</param>
/// <param name="Extents">The shape.</param>
public sealed record SafetensorsSpec(string Name, string DTypeName, IReadOnlyList<long> Extents)
{
    /// <summary>Declares a tensor of a type that Nibble holds.</summary>
    public SafetensorsSpec(string name, DType dtype, Shape shape)
        : this(name, SafetensorsDType.Name(dtype), shape.ToArray().Select(extent => (long)extent).ToArray())
    {
    }

    /// <summary>Bytes of the data.</summary>
    public long ByteLength => checked(Extents.Aggregate(1L, (product, extent) => checked(product * extent)) * SafetensorsDType.Bits(Rank) / 8);

    internal int Rank => SafetensorsDType.Rank(DTypeName) is int rank and >= 0
        ? rank
        : throw new ArgumentException($"safetensors: unknown dtype {DTypeName} of tensor '{Name}'");
}

/// <summary>
/// Writes a safetensors file tensor by tensor: all are declared first, then their bytes come in any order, one tensor at a time,
/// whole or in pieces. The file appears under its name at <see cref="Commit"/>. The byte order of the result depends only on the
/// declarations (element type by alignment, then name: the reference's order), never on the order of writing.
/// </summary>
public sealed unsafe class SafetensorsWriter : IDisposable
{
    private readonly AtomicFile _file;
    private readonly Dictionary<string, (long Begin, long End, long Next)> _places = new(StringComparer.Ordinal);

    private SafetensorsWriter(AtomicFile file) => _file = file;

    /// <summary>Starts a file; the space for all tensors is reserved now, so a disk that is too small is found before the work.</summary>
    /// <param name="path">The target; its folder must exist.</param>
    /// <param name="tensors">All tensors of the file.</param>
    /// <param name="metadata">Texts for <c>__metadata__</c>; <c>format: pt</c> is always there, because transformers asks for it.</param>
    public static SafetensorsWriter Create(string path, IEnumerable<SafetensorsSpec> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        SafetensorsSpec[] sorted = tensors.OrderByDescending(spec => spec.Rank).ThenBy(spec => spec.Name, StringComparer.Ordinal).ToArray();
        byte[] header = Header(sorted, metadata);
        AtomicFile file = AtomicFile.Create(path, header.Length + sorted.Sum(spec => spec.ByteLength));
        SafetensorsWriter writer = new(file);
        try
        {
            writer.Begin(header, sorted);
            return writer;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Writes a whole tensor.</summary>
    public void Append(string name, Tensor tensor)
    {
        Append(name, tensor.HostPointer, tensor.ByteLength);
        GC.KeepAlive(tensor);
    }

    /// <summary>Writes the next bytes of a tensor.</summary>
    public void Append(string name, ReadOnlySpan<byte> bytes)
    {
        if (!_places.TryGetValue(name, out var place))
        {
            throw new ArgumentException($"safetensors: tensor '{name}' was not declared for {_file.Path}");
        }

        if (bytes.Length > place.End - place.Next)
        {
            throw new ArgumentException(
                $"safetensors: tensor '{name}' is declared with {place.End - place.Begin:N0} bytes, {place.Next - place.Begin:N0} are written, {bytes.Length:N0} more do not fit");
        }

        try
        {
            RandomAccess.Write(_file.Handle, bytes, place.Next);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            AtomicFile.Refuse(_file.Path, bytes.Length, error);
        }

        _places[name] = place with { Next = place.Next + bytes.Length };
    }

    /// <summary>Writes <paramref name="length"/> bytes from <paramref name="pointer"/>, of any length.</summary>
    internal void Append(string name, byte* pointer, long length)
    {
        const int piece = 1 << 24;
        Append(name, ReadOnlySpan<byte>.Empty);
        for (long at = 0; at < length; at += piece)
        {
            Append(name, new ReadOnlySpan<byte>(pointer + at, (int)Math.Min(piece, length - at)));
        }
    }

    /// <summary>Checks that every tensor is complete, synchronizes with the disk and gives the file its name.</summary>
    public void Commit()
    {
        string[] open = _places.Where(place => place.Value.Next != place.Value.End).Select(place => place.Key).ToArray();
        if (open.Length > 0)
        {
            throw new InvalidOperationException($"safetensors: {open.Length} tensors of {_file.Path} are not complete: {string.Join(", ", open.Take(10))}");
        }

        _file.Commit();
    }

    /// <summary>Deletes what was written unless <see cref="Commit"/> was called.</summary>
    public void Dispose() => _file.Dispose();

    private void Begin(byte[] header, SafetensorsSpec[] sorted)
    {
        _file.Write(header);
        _file.Stream.Flush();
        long offset = header.Length;
        foreach (SafetensorsSpec spec in sorted)
        {
            if (!_places.TryAdd(spec.Name, (offset, offset + spec.ByteLength, offset)))
            {
                throw new ArgumentException($"safetensors: tensor '{spec.Name}' is declared twice");
            }

            offset += spec.ByteLength;
        }
    }

    private static byte[] Header(SafetensorsSpec[] sorted, IReadOnlyDictionary<string, string>? metadata)
    {
        using MemoryStream buffer = new();
        buffer.Write(stackalloc byte[8]);
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            WriteMetadata(json, metadata);
            long offset = 0;
            foreach (SafetensorsSpec spec in sorted)
            {
                WriteEntry(json, spec, offset);
                offset += spec.ByteLength;
            }

            json.WriteEndObject();
        }

        while (buffer.Length % 8 != 0)
        {
            buffer.WriteByte((byte)' ');
        }

        byte[] bytes = buffer.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(bytes, bytes.Length - 8);
        return bytes;
    }

    private static void WriteMetadata(Utf8JsonWriter json, IReadOnlyDictionary<string, string>? metadata)
    {
        SortedDictionary<string, string> all = new(StringComparer.Ordinal) { ["format"] = "pt" };
        foreach ((string key, string value) in metadata ?? new Dictionary<string, string>())
        {
            all[key] = value;
        }

        json.WriteStartObject("__metadata__");
        foreach ((string key, string value) in all)
        {
            json.WriteString(key, value);
        }

        json.WriteEndObject();
    }

    private static void WriteEntry(Utf8JsonWriter json, SafetensorsSpec spec, long offset)
    {
        json.WriteStartObject(spec.Name);
        json.WriteString("dtype", spec.DTypeName);
        json.WriteStartArray("shape");
        foreach (long extent in spec.Extents)
        {
            json.WriteNumberValue(extent);
        }

        json.WriteEndArray();
        json.WriteStartArray("data_offsets");
        json.WriteNumberValue(offset);
        json.WriteNumberValue(offset + spec.ByteLength);
        json.WriteEndArray();
        json.WriteEndObject();
    }
}

/// <summary>Saving a few tensors at once.</summary>
public static class Safetensors
{
    /// <summary>Writes tensors that all stand in host memory.</summary>
    public static void Save(string path, IEnumerable<(string Name, Tensor Tensor)> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        (string Name, Tensor Tensor)[] all = tensors.ToArray();
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, all.Select(item => new SafetensorsSpec(item.Name, item.Tensor.DType, item.Tensor.Shape)), metadata);
        foreach ((string name, Tensor tensor) in all)
        {
            writer.Append(name, tensor);
        }

        writer.Commit();
    }
}
