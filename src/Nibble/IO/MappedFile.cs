using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using Nibble.Tensors;

namespace Nibble.IO;

/// <summary>What <see cref="MappedFile.Advise"/> tells the system about pages.</summary>
public enum PageAdvice
{
    /// <summary>The pages will be read soon, in order.</summary>
    Sequential = 2,

    /// <summary>The pages will be read soon: start reading.</summary>
    WillNeed = 3,

    /// <summary>The pages are not needed now; they leave the process's memory and are read again if touched.</summary>
    DontNeed = 4,
}

/// <summary>
/// A file mapped read-only into memory; lengths are 64 bit. The pages are the system's: they count as file cache, not as heap.
/// A trap of every map: if somebody truncates the file meanwhile, touching a lost page kills the process (SIGBUS on Linux), and
/// no code can catch it. So never write in place what may be mapped: replace it by rename (<see cref="AtomicFile"/>).
/// Likewise the memory must not be written: the system ends the process that tries.
/// </summary>
public sealed unsafe partial class MappedFile : HostStorage
{
    private readonly MemoryMappedFile? _map;
    private readonly MemoryMappedViewAccessor? _view;
    private byte* _pointer;

    private MappedFile(string path, nint length, MemoryMappedFile? map)
        : base(length)
    {
        Path = path;
        _map = map;
        if (map != null)
        {
            _view = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _pointer);
            _pointer += _view.PointerOffset;
        }
        else
        {
            // An empty file cannot be mapped; any valid address serves, since nothing is read from it.
            _pointer = (byte*)NativeMemory.AllocZeroed(1);
        }
    }

    /// <summary>The file's path as it was given.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override byte* Pointer => _pointer != null ? _pointer : throw new ObjectDisposedException(nameof(MappedFile), $"{Path} is closed");

    /// <summary>Maps a file.</summary>
    public static MappedFile Open(string path)
    {
        try
        {
            FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 1);
            nint length = checked((nint)stream.Length);
            if (length == 0)
            {
                stream.Dispose();
                return new MappedFile(path, 0, null);
            }

            return new MappedFile(path, length, MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false));
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            Throw.NotFound($"{path} does not exist", remedy: "check the path", inner: error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or OutOfMemoryException)
        {
            Throw.Resource($"cannot read {path}", error.Message, "check the permissions, and that no program is writing it", error);
        }

        throw new InvalidOperationException("unreachable");
    }

    /// <summary>At most 2 GiB of the file as a span.</summary>
    public ReadOnlySpan<byte> Span(nint offset, int length)
    {
        if (offset < 0 || length < 0 || offset > ByteLength - length)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), $"{Path}: bytes {offset:N0} to {offset + length:N0} of {ByteLength:N0}");
        }

        return new ReadOnlySpan<byte>(Pointer + offset, length);
    }

    /// <summary>Tells the system how pages will be used; without effect where the system has no such call (Windows).</summary>
    public void Advise(PageAdvice advice, nint offset, nint length)
    {
        if (!OperatingSystem.IsLinux() || _map == null || length <= 0)
        {
            return;
        }

        nint page = Environment.SystemPageSize;
        nint start = offset & ~(page - 1);
        nint end = Math.Min(offset + length, ByteLength);
        if (start >= 0 && end > start)
        {
            // Advice only: if the system does not take it, nothing is wrong, pages merely stay longer.
            _ = Madvise(Pointer + start, (nuint)(end - start), (int)advice);
        }
    }

    /// <summary>Drops the pages of the whole file from the process's memory.</summary>
    public void DropPages() => Advise(PageAdvice.DontNeed, 0, ByteLength);

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_pointer == null)
        {
            return;
        }

        if (_view == null)
        {
            NativeMemory.Free(_pointer);
        }
        else
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map!.Dispose();
        }

        _pointer = null;
    }

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    private static partial int Madvise(byte* address, nuint length, int advice);
}
