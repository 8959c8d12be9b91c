using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>A safetensors file, mapped into memory. Tensors that it gives are views and end with it.</summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly MappedFile _map;
    private readonly SafetensorsHeader _header;

    private SafetensorsFile(MappedFile map, SafetensorsHeader header)
    {
        _map = map;
        _header = header;
    }

    /// <summary>The path as it was given.</summary>
    public string Path => _map.Path;

    /// <summary>The file's length in bytes.</summary>
    public long FileBytes => _map.ByteLength;

    /// <summary>All tensors by name.</summary>
    public IReadOnlyDictionary<string, SafetensorsEntry> Entries => _header.Entries;

    /// <summary>The free texts of <c>__metadata__</c>.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    /// <summary>Maps a file and checks its header against every rule of the format.</summary>
    /// <exception cref="NibbleException">The file does not exist, cannot be read, or breaks a rule.</exception>
    public static SafetensorsFile Open(string path, Limits? limits = null)
    {
        MappedFile map = MappedFile.Open(path);
        try
        {
            return new SafetensorsFile(map, SafetensorsHeader.Read(map, limits ?? Limits.Default));
        }
        catch
        {
            map.Dispose();
            throw;
        }
    }

    /// <summary>
    /// A tensor over the mapped bytes, without a copy (only elements that do not stand on a multiple of their size, in files of
    /// careless writers, are copied). Never write into it.
    /// </summary>
    /// <exception cref="NibbleException">There is no such tensor, or Nibble does not hold its element type or rank.</exception>
    public Tensor Load(string name)
    {
        SafetensorsEntry entry = Entry(name);
        if (entry.DType is not { } dtype)
        {
            Throw.BadInput($"{Path}: tensor '{name}' has dtype {entry.DTypeName}", $"Nibble holds {SafetensorsDType.Held}", "convert the tensor first");
            return null;
        }

        if (entry.Extents.Count > Shape.MaxRank)
        {
            Throw.BadInput($"{Path}: tensor '{name}' has shape {entry.ShapeText}", $"Nibble holds at most {Shape.MaxRank} dimensions", "reshape the tensor first");
        }

        return View(entry, entry.Shape, dtype);
    }

    /// <summary>The bytes of a tensor of any element type, as U8.</summary>
    public Tensor LoadBytes(string name)
    {
        SafetensorsEntry entry = Entry(name);
        return View(entry, new Shape((nint)entry.ByteLength), DType.U8);
    }

    /// <summary>Drops the pages of one tensor from the process's memory, once its content is packed elsewhere.</summary>
    public void DropPages(string name)
    {
        SafetensorsEntry entry = Entry(name);
        _map.Advise(PageAdvice.DontNeed, (nint)entry.Offset, (nint)entry.ByteLength);
    }

    /// <summary>Closes the file: tensors that it gave can no longer be read.</summary>
    public void Dispose() => _map.Dispose();

    internal SafetensorsEntry Entry(string name)
    {
        if (!Entries.TryGetValue(name, out SafetensorsEntry? entry))
        {
            Throw.NotFound($"{Path} has no tensor '{name}'", $"it has {Entries.Count:N0} others", "list them with: nibble show --tensors");
        }

        return entry;
    }

    private unsafe Tensor View(SafetensorsEntry entry, Shape shape, DType dtype)
    {
        nint offset = (nint)entry.Offset;
        if (offset % dtype.Size() == 0)
        {
            return new Tensor(shape, dtype, _map, offset, ownsStorage: false);
        }

        Tensor copy = Tensor.OnHost(shape, dtype);
        Buffer.MemoryCopy(_map.Pointer + offset, copy.HostPointer, copy.ByteLength, copy.ByteLength);
        return copy;
    }
}
