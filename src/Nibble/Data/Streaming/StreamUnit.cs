using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Streaming;

/// <summary>A part of a file that can be read without the parts before it.</summary>
internal abstract class StreamUnit(RowFile file)
{
    /// <summary>The file.</summary>
    public RowFile File => file;

    /// <summary>True if rows are counted by the byte at which they begin, because lines before them were not counted.</summary>
    public virtual bool PlacesAreBytes => true;

    /// <summary>Its rows.</summary>
    public abstract IEnumerable<RowRead> Rows();
}

/// <summary>All of a file: compressed, or in a form whose rows can't be told apart from the middle.</summary>
internal sealed class WholeFile(DataSet set, RowFile file) : StreamUnit(file)
{
    public override bool PlacesAreBytes => false;

    public override IEnumerable<RowRead> Rows() => set.Rows(File);
}

/// <summary>A row group of a Parquet file.</summary>
internal sealed class RowGroupUnit(RowFile file, int group, Limits limits) : StreamUnit(file)
{
    public override bool PlacesAreBytes => false;

    public override IEnumerable<RowRead> Rows() => ParquetRows.Read(File.Source, limits, group);
}

/// <summary>The JSON lines that begin in a range of bytes.</summary>
internal sealed class LinesUnit(RowFile file, long from, long to, Limits limits) : StreamUnit(file)
{
    public override IEnumerable<RowRead> Rows()
    {
        // The line that reaches into the range belongs to the one before: it is read from the byte before, which may be its end.
        long origin = Math.Max(0, from - 1);
        using Stream stream = File.Source.Open(origin);
        LineReader lines = new(stream, limits);
        if (from > 0 && lines.Next(out _) is null)
        {
            yield break;
        }

        foreach (RowRead row in JsonLineRows.Read(lines, origin, to, limits))
        {
            yield return row;
        }
    }
}

/// <summary>The lines of a plain text that begin in a range of bytes, as one text.</summary>
internal sealed class TextUnit(RowFile file, long from, long to) : StreamUnit(file)
{
    /// <summary>A text without lines is cut this far behind the range.</summary>
    private const int LongestLine = 1 << 16;

    public override IEnumerable<RowRead> Rows()
    {
        DataObject source = File.Source;
        (long start, long end) = (LineStart(from), LineStart(to));
        if (end <= start)
        {
            yield break;
        }

        byte[] bytes = new byte[end - start];
        source.ReadAt(start, bytes);
        ReadOnlyMemory<byte> text = start == 0 && bytes.AsSpan().StartsWith(System.Text.Encoding.UTF8.Preamble) ? bytes.AsMemory(3) : bytes;
        yield return System.Text.Unicode.Utf8.IsValid(text.Span)
            ? RowRead.OfText(start, System.Text.Encoding.UTF8.GetString(text.Span), continues: end < source.Length)
            : new RowRead(start, null, "no valid UTF-8", end < source.Length);
    }

    /// <summary>The first place at or behind a byte where a line, or at least a character, begins.</summary>
    private long LineStart(long at)
    {
        if (at <= 0 || at >= File.Source.Length)
        {
            return Math.Clamp(at, 0, File.Source.Length);
        }

        byte[] near = new byte[Math.Min(LongestLine, File.Source.Length - at + 1)];
        File.Source.ReadAt(at - 1, near);
        int line = near.AsSpan().IndexOf((byte)'\n');
        if (line >= 0)
        {
            return at + line;
        }

        // Bytes 10xxxxxx go on with a character.
        int place = 1;
        while (place < near.Length && (near[place] & 0xC0) == 0x80)
        {
            place++;
        }

        return at - 1 + place;
    }
}
