using Nibble.IO;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>A GGUF file, mapped into memory: metadata and directory are checked, no byte of a tensor is read until it is asked for.</summary>
public sealed unsafe class GgufFile : IDisposable
{
    private readonly MappedFile _map;
    private readonly GgufHeader _header;

    private GgufFile(MappedFile map, GgufHeader header)
    {
        _map = map;
        _header = header;
        Metadata = header.Metadata;
        Tensors = [.. header.Tensors.Values];
    }

    /// <summary>The path as it was given.</summary>
    public string Path => _map.Path;

    /// <summary>The file's length in bytes.</summary>
    public long FileBytes => _map.ByteLength;

    /// <summary>Version of the format.</summary>
    public int Version => _header.Version;

    /// <summary>Tensors begin at multiples of this.</summary>
    public int Alignment => _header.Alignment;

    /// <summary>First byte of the data.</summary>
    public long DataOffset => _header.DataOffset;

    /// <summary>Keys and values.</summary>
    public GgufMetadata Metadata { get; }

    /// <summary>All tensors, in the order of the file.</summary>
    public IReadOnlyList<GgufTensor> Tensors { get; }

    /// <summary>True if a path names a GGUF file by its ending.</summary>
    public static bool Names(string path) => path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase);

    /// <summary>Maps a file and checks its header against every rule of the format.</summary>
    /// <exception cref="NibbleException">The file does not exist, cannot be read, or breaks a rule.</exception>
    public static GgufFile Open(string path, Limits? limits = null)
    {
        MappedFile map = MappedFile.Open(path);
        try
        {
            return new GgufFile(map, GgufHeader.Read(map, limits ?? Limits.Default));
        }
        catch
        {
            map.Dispose();
            throw;
        }
    }

    /// <summary>A tensor of the directory, or null.</summary>
    public GgufTensor? Find(string name) => _header.Tensors.GetValueOrDefault(name);

    /// <summary>A tensor of floating point numbers as a view of the file; of blocks, a new F32 tensor. NaN and infinity are refused.</summary>
    public Tensor Load(string name)
    {
        Tensor tensor = Read(Entry(name));
        FiniteCheck.Require(tensor, name, Path);
        return tensor;
    }

    /// <summary>Reads every tensor of a readable type and lists those with NaN or infinity.</summary>
    internal List<NonFiniteTensor> NonFinite(CancellationToken cancellation)
    {
        List<NonFiniteTensor> found = [];
        foreach (GgufTensor entry in Tensors.Where(entry => GgufCodec.Find(entry.Type) != null))
        {
            cancellation.ThrowIfCancellationRequested();
            using Tensor tensor = Read(entry);
            nint element = FiniteCheck.FirstNonFinite(tensor);
            if (element >= 0)
            {
                found.Add(new NonFiniteTensor(entry.Name, element));
            }

            DropPages(entry);
        }

        return found;
    }

    /// <summary>The bytes of rows of a tensor, as they stand in the file.</summary>
    internal ReadOnlySpan<byte> Row(GgufTensor entry, nint row)
    {
        int bytes = checked((int)entry.Type.RowBytes(entry.Extents.Count == 0 ? 1 : entry.Extents[^1]));
        return _map.Span((nint)entry.Offset + (row * bytes), bytes);
    }

    /// <summary>Drops the pages of one tensor from the process's memory, once its content is packed elsewhere.</summary>
    internal void DropPages(GgufTensor entry) => _map.Advise(PageAdvice.DontNeed, (nint)entry.Offset, (nint)entry.ByteLength);

    /// <summary>Closes the file: tensors that it gave can no longer be read.</summary>
    public void Dispose() => _map.Dispose();

    private GgufTensor Entry(string name)
    {
        GgufTensor? entry = Find(name);
        if (entry == null)
        {
            Throw.NotFound($"{Path} has no tensor '{name}'", $"it has {Tensors.Count:N0} others", "list them with: nibble show --tensors");
        }

        return entry;
    }

    private Tensor Read(GgufTensor entry) => entry.Type switch
    {
        GgufType.F32 => View(entry, DType.F32),
        GgufType.F16 => View(entry, DType.F16),
        GgufType.BF16 => View(entry, DType.BF16),
        _ => Dequantize(entry),
    };

    private Tensor View(GgufTensor entry, DType dtype)
    {
        nint offset = (nint)entry.Offset;
        if (offset % dtype.Size() == 0)
        {
            return new Tensor(entry.Shape, dtype, _map, offset, ownsStorage: false);
        }

        Tensor copy = Tensor.OnHost(entry.Shape, dtype);
        Buffer.MemoryCopy(_map.Pointer + offset, copy.HostPointer, copy.ByteLength, copy.ByteLength);
        return copy;
    }

    private Tensor Dequantize(GgufTensor entry)
    {
        GgufCodec codec = GgufCodec.Require(entry.Type, $"{Path}: tensor '{entry.Name}'");
        Tensor values = Tensor.OnHost(entry.Shape, DType.F32);
        nint columns = entry.Extents.Count == 0 ? 1 : (nint)entry.Extents[^1];
        nint rows = columns == 0 ? 0 : values.Shape.Count / columns;
        float* target = (float*)values.HostPointer;
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                codec.Decode(Row(entry, row), new Span<float>(target + (row * columns), (int)columns));
            }
        });
        return values;
    }
}
