using System.Buffers.Binary;
using System.Text;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>The metadata of a file that is being written: values in the order in which they come.</summary>
internal sealed class GgufMetadataWriter
{
    private readonly MemoryStream _bytes = new();

    /// <summary>Number of values.</summary>
    public long Count { get; private set; }

    /// <summary>The values as they stand in the file.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes.GetBuffer().AsSpan(0, (int)_bytes.Length);

    public void Text(string key, string value)
    {
        Begin(key, GgufKind.String);
        Put(value);
    }

    public void U32(string key, long value)
    {
        Begin(key, GgufKind.U32);
        Put(checked((uint)value));
    }

    public void F32(string key, double value)
    {
        Begin(key, GgufKind.F32);
        Put(BitConverter.SingleToUInt32Bits((float)value));
    }

    public void Bool(string key, bool value)
    {
        Begin(key, GgufKind.Bool);
        _bytes.WriteByte(value ? (byte)1 : (byte)0);
    }

    public void Texts(string key, IReadOnlyCollection<string> values)
    {
        BeginArray(key, GgufKind.String, values.Count);
        foreach (string value in values)
        {
            Put(value);
        }
    }

    public void I32s(string key, IReadOnlyCollection<int> values)
    {
        BeginArray(key, GgufKind.I32, values.Count);
        foreach (int value in values)
        {
            Put((uint)value);
        }
    }

    public void F32s(string key, IReadOnlyCollection<float> values)
    {
        BeginArray(key, GgufKind.F32, values.Count);
        foreach (float value in values)
        {
            Put(BitConverter.SingleToUInt32Bits(value));
        }
    }

    private void BeginArray(string key, GgufKind kind, int count)
    {
        Begin(key, GgufKind.Array);
        Put((uint)kind);
        Put((ulong)count);
    }

    private void Begin(string key, GgufKind kind)
    {
        Count++;
        Put(key);
        Put((uint)kind);
    }

    private void Put(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Put((ulong)bytes.Length);
        _bytes.Write(bytes);
    }

    private void Put(uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        _bytes.Write(bytes);
    }

    private void Put(ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _bytes.Write(bytes);
    }
}

/// <summary>One tensor that a <see cref="GgufWriter"/> is going to write; extents outermost first.</summary>
internal sealed record GgufSpec(string Name, GgufType Type, IReadOnlyList<long> Extents)
{
    /// <summary>Bytes of all blocks.</summary>
    public long ByteLength => Extents.Take(Extents.Count - 1).Aggregate(Type.RowBytes(Extents[^1]), (bytes, extent) => checked(bytes * extent));
}

/// <summary>Writes a GGUF file, version 3: everything is declared first, then the bytes come in the declared order.</summary>
internal sealed class GgufWriter : IDisposable
{
    private const int Alignment = 32;

    private readonly AtomicFile _file;
    private readonly IReadOnlyList<GgufSpec> _specs;
    private int _next;
    private long _left;

    private GgufWriter(AtomicFile file, IReadOnlyList<GgufSpec> specs) => (_file, _specs) = (file, specs);

    /// <summary>Starts a file; the space for all tensors is reserved now.</summary>
    public static GgufWriter Create(string path, GgufMetadataWriter metadata, IReadOnlyList<GgufSpec> specs)
    {
        byte[] header = Header(metadata, specs);
        AtomicFile file = AtomicFile.Create(path, header.Length + specs.Sum(spec => Padded(spec.ByteLength)));
        try
        {
            file.Write(header);
            return new GgufWriter(file, specs);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Begins the next tensor; its name must be the declared one.</summary>
    public GgufSpec Begin(string name)
    {
        if (_left != 0 || _next == _specs.Count || _specs[_next].Name != name)
        {
            throw new InvalidOperationException($"gguf: tensor '{name}' does not come here");
        }

        _left = _specs[_next].ByteLength;
        return _specs[_next++];
    }

    /// <summary>Writes the next bytes of the tensor.</summary>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > _left)
        {
            throw new InvalidOperationException($"gguf: too many bytes for tensor '{_specs[_next - 1].Name}'");
        }

        _file.Write(bytes);
        _left -= bytes.Length;
        if (_left == 0)
        {
            long length = _specs[_next - 1].ByteLength;
            _file.Write(new byte[Padded(length) - length]);
        }
    }

    /// <summary>Checks that every tensor is complete, synchronizes with the disk and gives the file its name.</summary>
    public void Commit()
    {
        if (_left != 0 || _next != _specs.Count)
        {
            throw new InvalidOperationException($"gguf: {_specs.Count - _next} tensors are missing");
        }

        _file.Commit();
    }

    /// <summary>Deletes what was written unless <see cref="Commit"/> was called.</summary>
    public void Dispose() => _file.Dispose();

    private static long Padded(long length) => (length + Alignment - 1) / Alignment * Alignment;

    private static byte[] Header(GgufMetadataWriter metadata, IReadOnlyList<GgufSpec> specs)
    {
        using MemoryStream stream = new();
        using BinaryWriter writer = new(stream);
        writer.Write("GGUF"u8);
        writer.Write(3u);
        writer.Write((long)specs.Count);
        writer.Write(metadata.Count);
        writer.Write(metadata.Bytes);
        long offset = 0;
        foreach (GgufSpec spec in specs)
        {
            byte[] name = Encoding.UTF8.GetBytes(spec.Name);
            writer.Write((long)name.Length);
            writer.Write(name);
            writer.Write((uint)spec.Extents.Count);
            foreach (long extent in spec.Extents.Reverse())
            {
                writer.Write(extent);
            }

            writer.Write((uint)spec.Type);
            writer.Write(offset);
            offset += Padded(spec.ByteLength);
        }

        writer.Write(new byte[Padded(stream.Length) - stream.Length]);
        return stream.ToArray();
    }
}
