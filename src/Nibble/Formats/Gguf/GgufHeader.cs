using Nibble.IO;

namespace Nibble.Formats;

/// <summary>Reads and checks everything before the data of a GGUF file: all checks of the reference implementation, and some more.</summary>
internal sealed class GgufHeader
{
    private const int MostExtents = 4;
    private const int DefaultAlignment = 32;
    private const long MostElements = 1L << 30;
    private const int LongestName = 63;

    // The shortest records: an empty string, a type, one byte; an empty name, no extents, type, offset.
    private const int ShortestValue = 13;
    private const int ShortestTensor = 24;

    private readonly MappedFile _map;
    private readonly GgufCursor _cursor;
    private readonly Limits _limits;
    private readonly Dictionary<string, GgufValue> _values = new(StringComparer.Ordinal);
    private readonly Dictionary<string, GgufTensor> _tensors = new(StringComparer.Ordinal);

    private GgufHeader(MappedFile map, Limits limits)
    {
        (_map, _limits) = (map, limits);
        _cursor = new GgufCursor(map);
    }

    public int Version { get; private set; }

    public int Alignment { get; private set; } = DefaultAlignment;

    public nint DataOffset { get; private set; }

    public GgufMetadata Metadata => new(_map.Path, _values);

    /// <summary>All tensors by name, in the order of the file.</summary>
    public IReadOnlyDictionary<string, GgufTensor> Tensors => _tensors;

    public static GgufHeader Read(MappedFile map, Limits limits)
    {
        GgufHeader header = new(map, limits);
        header.ReadVersion();
        long tensors = header.Counted("tensors", ShortestTensor, limits.Tensors);
        long values = header.Counted("values of metadata", ShortestValue, limits.Tensors);
        for (long i = 0; i < values; i++)
        {
            header.ReadValue(i);
        }

        header.ReadAlignment();
        header.ReadTensors(tensors);
        return header;
    }

    private void ReadVersion()
    {
        if (!_cursor.Take(4, "the first four bytes").SequenceEqual("GGUF"u8))
        {
            _cursor.Refuse("this is no GGUF file", "it does not begin with GGUF", "give a .gguf file (a Git LFS pointer is a small text file in its place)");
        }

        uint version = _cursor.U32("the version");
        if ((version & 0xFFFF) == 0 && version != 0)
        {
            _cursor.Refuse("the file has the byte order of big-endian machines", $"its version reads as {version}", "convert the file on the machine that wrote it, or download a little-endian one");
        }

        if (version is < 2 or > 3)
        {
            _cursor.Refuse($"GGUF version {version} is not supported", "supported are 2 and 3", "write the file again with a current tool");
        }

        Version = (int)version;
    }

    private long Counted(string what, int shortest, long most)
    {
        ulong count = _cursor.U64($"the number of {what}");
        if (count > (ulong)most || count > (ulong)(_cursor.Left / shortest))
        {
            _cursor.Refuse(
                $"the file claims {count:N0} {what}",
                $"each takes at least {shortest} bytes, {_cursor.Left:N0} are left; at most {most:N0} are read",
                "the file is damaged: download it again");
        }

        return (long)count;
    }

    private void ReadValue(long index)
    {
        string key = _cursor.Text($"key {index:N0}");
        if (key.Length == 0)
        {
            _cursor.Refuse($"key {index:N0} is empty");
        }

        GgufKind kind = ReadKind(key);
        GgufKind element = kind;
        long count = 1;
        if (kind == GgufKind.Array)
        {
            element = ReadKind(key);
            if (element == GgufKind.Array)
            {
                _cursor.Refuse($"{key} is an array of arrays", "the reference implementation does not read these either");
            }

            count = ReadCount(key, element);
        }

        nint offset = _cursor.At;
        Skip(key, kind, element, count);
        if (!_values.TryAdd(key, new GgufValue(_map, key, kind, element, count, offset)))
        {
            _cursor.Refuse($"the key {key} is there twice");
        }
    }

    private GgufKind ReadKind(string key)
    {
        uint kind = _cursor.U32($"the type of {key}");
        if (kind > (uint)GgufKind.F64)
        {
            _cursor.Refuse($"{key} is of unknown type {kind}", "known are 0 to 12", "the file is damaged, or newer than this version of Nibble");
        }

        return (GgufKind)kind;
    }

    private long ReadCount(string key, GgufKind element)
    {
        ulong count = _cursor.U64($"the number of elements of {key}");
        ulong size = element == GgufKind.String ? 8 : (ulong)GgufValue.SizeOf(element);
        if (count > MostElements || count > (ulong)_cursor.Left / size)
        {
            _cursor.Refuse(
                $"{key} claims {count:N0} elements of {element}",
                $"{_cursor.Left:N0} bytes are left; at most {MostElements:N0} elements are read",
                "the file is damaged: download it again");
        }

        return (long)count;
    }

    private void Skip(string key, GgufKind kind, GgufKind element, long count)
    {
        if (element == GgufKind.String)
        {
            _cursor.SkipTexts(count, kind == GgufKind.Array ? $"an element of {key}" : key);
            return;
        }

        int size = GgufValue.SizeOf(element);
        if (count * size > _cursor.Left)
        {
            _cursor.Refuse($"the file ends inside {key}", $"{count * size:N0} bytes are needed at byte {_cursor.At:N0}, {_cursor.Left:N0} are left", "the download is incomplete: download the file again");
        }

        RequireBooleans(key, element, count);
        _cursor.At += (nint)(count * size);
    }

    private void RequireBooleans(string key, GgufKind element, long count)
    {
        if (element == GgufKind.Bool && _map.Span(_cursor.At, (int)count).ContainsAnyExceptInRange((byte)0, (byte)1))
        {
            _cursor.Refuse($"{key} is neither true nor false", "a truth value is a byte of 0 or 1");
        }
    }

    private void ReadAlignment()
    {
        if (!_values.TryGetValue("general.alignment", out GgufValue? value))
        {
            return;
        }

        if (value.Kind != GgufKind.U32)
        {
            value.Refuse($"the alignment must be of type U32, not {value.Kind}");
        }

        long alignment = value.Integer();
        if (alignment is 0 or > int.MaxValue || !long.IsPow2(alignment))
        {
            value.Refuse("the alignment must be a power of two");
        }

        Alignment = (int)alignment;
    }

    private void ReadTensors(long count)
    {
        ulong next = 0;
        for (long i = 0; i < count; i++)
        {
            GgufTensor tensor = ReadTensor(i, next);
            if (!_tensors.TryAdd(tensor.Name, tensor))
            {
                _cursor.Refuse($"tensor '{tensor.Name}' is there twice");
            }

            next = Padded((ulong)tensor.Offset + (ulong)tensor.ByteLength);
        }

        ulong start = Padded((ulong)_cursor.At);
        DataOffset = count > 0 ? (nint)start : _cursor.At;
        foreach ((string name, GgufTensor tensor) in _tensors.ToArray())
        {
            if (start + (ulong)tensor.Offset + (ulong)tensor.ByteLength > (ulong)_map.ByteLength)
            {
                _cursor.Refuse(
                    $"the data of tensor '{name}' ends beyond the file",
                    $"it ends at byte {start + (ulong)tensor.Offset + (ulong)tensor.ByteLength:N0}, the file has {_map.ByteLength:N0}",
                    "the download is incomplete: download the file again");
            }

            _tensors[name] = tensor with { Offset = (long)start + tensor.Offset };
        }
    }

    /// <summary>One record; its offset is still relative to the data, and must be the one that follows from the tensors before it.</summary>
    private GgufTensor ReadTensor(long index, ulong expected)
    {
        string name = _cursor.Text($"the name of tensor {index:N0}");
        if (System.Text.Encoding.UTF8.GetByteCount(name) > LongestName)
        {
            _cursor.Refuse($"the name of tensor {index:N0} has more than {LongestName} bytes", $"it begins with {name[..20]}");
        }

        long[] extents = ReadExtents(name);
        GgufType type = ReadType(name);
        long bytes = SizeOf(name, type, extents);
        ulong offset = _cursor.U64($"the offset of tensor '{name}'");
        if (offset != expected)
        {
            _cursor.Refuse(
                $"tensor '{name}' begins at {offset:N0}",
                $"the tensors before it end at {expected:N0} (padded to {Alignment}): there may be no hole and no overlap",
                "the file is damaged: download it again");
        }

        return new GgufTensor(name, type, [.. extents.Reverse()], (long)offset, bytes);
    }

    private long[] ReadExtents(string name)
    {
        uint rank = _cursor.U32($"the rank of tensor '{name}'");
        if (rank > MostExtents)
        {
            _cursor.Refuse($"tensor '{name}' has {rank:N0} dimensions", $"the format has at most {MostExtents}");
        }

        long[] extents = new long[rank];
        for (int i = 0; i < extents.Length; i++)
        {
            extents[i] = (long)_cursor.U64($"the shape of tensor '{name}'");
            if (extents[i] < 0)
            {
                _cursor.Refuse($"tensor '{name}' has a dimension of {extents[i]}", "a dimension is ≥ 0");
            }
        }

        return extents;
    }

    private GgufType ReadType(string name)
    {
        uint number = _cursor.U32($"the type of tensor '{name}'");
        GgufType type = (GgufType)number;
        if (number > int.MaxValue || !type.IsKnown())
        {
            string why = number is 4 or 5 or (>= 31 and <= 33) or (>= 36 and <= 38) ? "the format has given up this type" : "no such type is known";
            _cursor.Refuse($"tensor '{name}' is of type {number}", why, "write the file again with a current tool");
        }

        return type;
    }

    private long SizeOf(string name, GgufType type, long[] extents)
    {
        long row = extents.Length == 0 ? 1 : extents[0];
        if (row % type.BlockElements() != 0)
        {
            _cursor.Refuse($"tensor '{name}' has rows of {row:N0} elements", $"{type} needs a multiple of {type.BlockElements()}");
        }

        try
        {
            // Zeros must not hide an overflow: the product of the others counts too.
            long count = extents.Aggregate(1L, (product, extent) => checked(product * Math.Max(extent, 1)));
            long bytes = checked(count / type.BlockElements() * type.BlockBytes());
            long padded = checked(bytes + Alignment);
            bool fits = padded - Alignment <= _map.ByteLength;
            return extents.Contains(0) ? 0 : fits ? bytes : TooLarge(name, bytes);
        }
        catch (OverflowException)
        {
            _cursor.Refuse($"the size of tensor '{name}' is beyond 63 bits", $"its shape is [{string.Join(", ", extents)}]", "the file is damaged: download it again");
            throw;
        }
    }

    private long TooLarge(string name, long bytes)
    {
        _cursor.Refuse($"tensor '{name}' takes {bytes:N0} bytes", $"the whole file has {_map.ByteLength:N0}", "the download is incomplete: download the file again");
        return 0;
    }

    private ulong Padded(ulong offset) => (offset + (ulong)Alignment - 1) & ~((ulong)Alignment - 1);
}
