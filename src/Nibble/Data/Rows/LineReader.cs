using System.Text;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>Lines of a stream as bytes; a line has a longest length, whatever comes.</summary>
internal sealed class LineReader(Stream stream, Limits limits)
{
    private byte[] _buffer = new byte[1 << 16];
    private int _start, _end;
    private bool _ended, _begun;

    /// <summary>Number of the last line, from 1.</summary>
    public long Number { get; private set; }

    /// <summary>Bytes read so far, line ends included.</summary>
    public long Position { get; private set; }

    /// <summary>The next line without its end; null at the end. A line that is too long comes with <paramref name="tooLong"/> and no content.</summary>
    public ReadOnlyMemory<byte>? Next(out bool tooLong)
    {
        tooLong = false;
        int searched = _start;
        while (true)
        {
            int at = _buffer.AsSpan(searched, _end - searched).IndexOf((byte)'\n');
            if (at >= 0 || (_ended && _end > _start))
            {
                int length = (at >= 0 ? searched + at : _end) - _start;
                ReadOnlyMemory<byte> line = Trim(_buffer.AsMemory(_start, length));
                Advance(length + (at >= 0 ? 1 : 0));
                tooLong |= length > limits.RowBytes;
                return tooLong ? ReadOnlyMemory<byte>.Empty : line;
            }

            if (_ended)
            {
                return null;
            }

            if (_end - _start > limits.RowBytes)
            {
                tooLong = true;
                Advance(_end - _start, line: false);
            }

            searched = Fill();
        }
    }

    private void Advance(int bytes, bool line = true)
    {
        _start += bytes;
        Position += bytes;
        Number += line ? 1 : 0;
    }

    private ReadOnlyMemory<byte> Trim(ReadOnlyMemory<byte> line)
    {
        if (!_begun)
        {
            _begun = true;
            line = line.Span.StartsWith(Encoding.UTF8.Preamble) ? line[3..] : line;
        }

        return line.Span.EndsWith("\r"u8) ? line[..^1] : line;
    }

    /// <summary>Reads more; returns where unsearched bytes begin.</summary>
    private int Fill()
    {
        int held = _end - _start;
        byte[] target = held > _buffer.Length / 2 ? new byte[_buffer.Length * 2] : _buffer;
        _buffer.AsSpan(_start, held).CopyTo(target);
        (_buffer, _start) = (target, 0);
        int read = stream.Read(_buffer, held, _buffer.Length - held);
        _ended = read == 0;
        _end = held + read;
        return held;
    }
}
