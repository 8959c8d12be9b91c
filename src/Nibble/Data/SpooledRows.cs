using System.Collections;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Nibble.IO;

namespace Nibble.Data;

/// <summary>
/// Rows that can be read in any order without being in memory: beyond a first part they stand in a temporary file, of which only the
/// places are held. The file is gone when the process is.
/// </summary>
internal sealed class SpooledRows : IReadOnlyList<TrainingRow>, IDisposable
{
    /// <summary>Tokens that are kept in memory (8 bytes each).</summary>
    private const long TokensInMemory = 8 << 20;

    private readonly long _most;
    private readonly List<TrainingRow> _held = [];
    private readonly List<long> _places = [];
    private SafeFileHandle? _file;
    private long _tokens, _end;

    /// <summary>An empty list; <paramref name="most"/> tokens stay in memory.</summary>
    public SpooledRows(long most = TokensInMemory) => _most = most;

    /// <inheritdoc/>
    public int Count => _held.Count + _places.Count;

    /// <summary>Positions that are scored, over all rows.</summary>
    public long ScoredTokens { get; private set; }

    /// <inheritdoc/>
    public TrainingRow this[int index] => index < _held.Count ? _held[index] : Read(_places[index - _held.Count]);

    /// <summary>Adds a row.</summary>
    public void Add(TrainingRow row)
    {
        ScoredTokens += row.ScoredTokens;
        if (_places.Count == 0 && (_tokens += row.Ids.Length) <= _most)
        {
            _held.Add(row);
            return;
        }

        int[] record = [row.Ids.Length, row.Starts.Count, .. row.Ids, .. row.Targets, .. row.Starts];
        _file ??= AtomicFile.Attempt(Path.GetTempPath(), 0, Open);
        AtomicFile.Attempt(Path.GetTempPath(), record.Length * 4L, () => RandomAccess.Write(_file, MemoryMarshal.AsBytes(record.AsSpan()), _end));
        _places.Add(_end);
        _end += record.Length * 4L;
    }

    /// <inheritdoc/>
    public IEnumerator<TrainingRow> GetEnumerator()
    {
        for (int i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <inheritdoc/>
    public void Dispose() => _file?.Dispose();

    /// <summary>Windows deletes such a file whatever becomes of the process; elsewhere its name goes at once, and the open handle is all that holds it.</summary>
    private static SafeFileHandle Open()
    {
        string path = Path.Combine(Path.GetTempPath(), $"nibble-rows-{Guid.NewGuid():N}");
        FileOptions options = OperatingSystem.IsWindows() ? FileOptions.DeleteOnClose : FileOptions.None;
        SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, options);
        if (!OperatingSystem.IsWindows())
        {
            File.Delete(path);
        }

        return file;
    }

    private TrainingRow Read(long place)
    {
        int[] head = new int[2];
        Fill(head, place);
        int[] all = new int[(2 * head[0]) + head[1]];
        Fill(all, place + 8);
        return new TrainingRow(all[..head[0]], all[head[0]..(2 * head[0])]) { Starts = all[(2 * head[0])..] };
    }

    private void Fill(int[] into, long place)
    {
        Span<byte> bytes = MemoryMarshal.AsBytes(into.AsSpan());
        while (bytes.Length > 0)
        {
            int read = RandomAccess.Read(_file!, bytes, place);
            if (read == 0)
            {
                Throw.Failed("the temporary file of rows is shorter than it was written", "something else changed it", "run again");
            }

            bytes = bytes[read..];
            place += read;
        }
    }
}
