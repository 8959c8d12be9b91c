using Nibble.IO;

namespace Nibble.Data.Sources;

/// <summary>A file of data, wherever it is: can be read from any place on.</summary>
internal abstract class DataObject
{
    /// <summary>The name as the user would write it.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes.</summary>
    public abstract long Length { get; }

    /// <summary>Opens it for reading from a byte on.</summary>
    public abstract Stream Open(long from = 0);

    /// <summary>Reads bytes at a place.</summary>
    /// <exception cref="NibbleException">The file ends before.</exception>
    public virtual void ReadAt(long offset, Span<byte> into)
    {
        using Stream stream = Open(offset);
        int read = stream.ReadAtLeast(into, into.Length, throwOnEndOfStream: false);
        if (read < into.Length)
        {
            Throw.BadInput($"{Name} ends early", $"{into.Length:N0} bytes at {offset:N0} were asked for, {read:N0} came", "the file is truncated or was changed meanwhile: get it again");
        }
    }
}

/// <summary>A file on this machine.</summary>
internal sealed class LocalObject(string path) : DataObject
{
    public override string Name => path;

    public override long Length { get; } = FileSize.Of(path);

    public override Stream Open(long from = 0)
    {
        FileStream stream = new(path, new FileStreamOptions { Access = FileAccess.Read, Share = FileShare.Read | FileShare.Delete, BufferSize = 1 << 16, Options = FileOptions.SequentialScan });
        stream.Seek(from, SeekOrigin.Begin);
        return stream;
    }
}
