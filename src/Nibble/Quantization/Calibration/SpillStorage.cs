using System.IO.MemoryMappedFiles;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Memory that the system may move to a disk: a mapped file in the folder for temporary files, which is gone with the process. Zeroed
/// at the start.
/// </summary>
internal sealed unsafe class SpillStorage : HostStorage
{
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private byte* _pointer;

    public SpillStorage(nint byteLength)
        : base(byteLength)
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        try
        {
            FileStream file = new(path, new FileStreamOptions
            {
                Mode = FileMode.CreateNew, Access = FileAccess.ReadWrite, Share = FileShare.None, Options = FileOptions.DeleteOnClose, PreallocationSize = byteLength,
            });
            // The name goes at once, so that a killed process leaves nothing.
            if (!OperatingSystem.IsWindows())
            {
                File.Delete(path);
            }

            _map = MemoryMappedFile.CreateFromFile(file, null, nint.Max(1, byteLength), MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: false);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            Throw.Resource($"{byteLength:N0} bytes of hidden states could not be written to {Path.GetTempPath()}", error.Message, "free space there, set TMPDIR to another folder, or use fewer samples", error);
            throw;
        }

        _view = _map.CreateViewAccessor(0, nint.Max(1, byteLength));
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _pointer);
    }

    public override byte* Pointer => _pointer != null ? _pointer : throw new ObjectDisposedException(nameof(SpillStorage));

    public override void Dispose()
    {
        if (_pointer != null)
        {
            _pointer = null;
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map.Dispose();
        }
    }
}
