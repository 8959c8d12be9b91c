using System.Security.Cryptography;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Finished blocks of a calibration in a hidden folder beside the output, one file a block. They count only for the very same work: a
/// key over model, plan, samples and program is stored with them. Every file ends with a hash, so that a torn one is not taken for whole. Work that is itself
/// one pass of the samples keeps their hidden states behind the last block, too.
/// </summary>
internal sealed class CalibrationJournal : IDisposable
{
    private const string Suffix = ".nibble-resume";
    private readonly string _key;
    private readonly FileStream _lock;

    private CalibrationJournal(string folder, string key, FileStream held) => (Folder, _key, _lock) = (folder, key, held);

    /// <summary>Where the files stand.</summary>
    public string Folder { get; }

    /// <summary>Blocks that are there without a gap.</summary>
    public int Finished { get; private set; }

    /// <summary>Opens the journal of an output folder; one of other work is emptied.</summary>
    /// <exception cref="NibbleException">Another process works on the same output.</exception>
    public static CalibrationJournal Open(string output, string key)
    {
        string target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(output));
        string folder = Path.Combine(Path.GetDirectoryName(target)!, $".{Path.GetFileName(target)}{Suffix}");
        Directory.CreateDirectory(folder);
        CalibrationJournal journal = new(folder, key, Hold(folder, output));
        string keyFile = Path.Combine(folder, "key");
        if (!File.Exists(keyFile) || File.ReadAllText(keyFile) != key)
        {
            foreach (string file in Directory.EnumerateFiles(folder, "block-*").Concat(Directory.EnumerateFiles(folder, "states-*")))
            {
                File.Delete(file);
            }

            AtomicFile.WriteAllText(keyFile, key);
        }

        while (File.Exists(journal.PathOf(journal.Finished)))
        {
            journal.Finished++;
        }

        return journal;
    }

    /// <summary>Says what an earlier run has done, if any.</summary>
    public void Announce(Action<string>? note, int blocks)
    {
        if (Finished > 0)
        {
            note?.Invoke($"going on from an interrupted run: {Finished} of {blocks} blocks are finished");
        }
    }

    /// <summary>What the user is told when the work is cancelled.</summary>
    public WorkInterruptedException Interrupted(int blocks, OperationCanceledException error) =>
        new($"{Finished} of {blocks} blocks are finished and kept in {Folder}\nthe same command goes on from there; delete that folder to start over", error);

    /// <summary>What was remembered of a finished block, item by item; null if its file is missing or damaged.</summary>
    public IReadOnlyList<T>? Read<T>(int block, Func<BinaryReader, T> read)
    {
        if (block >= Finished)
        {
            return null;
        }

        byte[] bytes = File.ReadAllBytes(PathOf(block));
        if (bytes.Length < SHA256.HashSizeInBytes || !Hash(bytes.AsSpan(..^SHA256.HashSizeInBytes)).AsSpan().SequenceEqual(bytes.AsSpan(^SHA256.HashSizeInBytes..)))
        {
            Finished = block;
            return null;
        }

        using BinaryReader reader = new(new MemoryStream(bytes));
        return [.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => read(reader))];
    }

    /// <summary>Remembers a block.</summary>
    public void Write<T>(int block, IReadOnlyList<T> items, Action<BinaryWriter, T> write)
    {
        using MemoryStream stream = new();
        using (BinaryWriter writer = new(stream, System.Text.Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(items.Count);
            foreach (T item in items)
            {
                write(writer, item);
            }
        }

        stream.Write(Hash(stream.GetBuffer().AsSpan(0, (int)stream.Length)));
        AtomicFile.WriteAllBytes(PathOf(block), stream.GetBuffer().AsSpan(0, (int)stream.Length));
        Finished = block + 1;
    }

    /// <summary>Remembers the hidden states of all batches behind a block, before <see cref="Write"/> says that it is finished.</summary>
    public void WriteStates(int block, IReadOnlyList<Tensor> states)
    {
        using AtomicFile file = AtomicFile.Create(StatesOf(block), states.Sum(state => (long)state.ByteLength));
        using IncrementalHash hash = StartHash();
        foreach (Tensor state in states)
        {
            hash.AppendData(Bytes(state));
            file.Write(Bytes(state));
        }

        file.Write(hash.GetHashAndReset());
        file.Commit();
    }

    /// <summary>Reads them back; where they are missing or damaged nothing is read, and no block counts any more.</summary>
    public bool ReadStates(int block, IReadOnlyList<Tensor> states)
    {
        if (!IsWhole(StatesOf(block), states.Sum(state => (long)state.ByteLength)))
        {
            Finished = 0;
            return false;
        }

        using FileStream file = File.OpenRead(StatesOf(block));
        foreach (Tensor state in states)
        {
            file.ReadExactly(Bytes(state));
        }

        return true;
    }

    /// <summary>Nobody needs the states behind this block any more.</summary>
    public void DropStates(int block) => File.Delete(StatesOf(block));

    /// <summary>Deletes the journal: its work is done, or worth nothing.</summary>
    public void Delete()
    {
        _lock.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    /// <summary>Lets go of the journal; it stays for the next run.</summary>
    public void Dispose() => _lock.Dispose();

    // The key is part of the hash: a block of other work never counts.
    private byte[] Hash(ReadOnlySpan<byte> content)
    {
        using IncrementalHash hash = StartHash();
        hash.AppendData(content);
        return hash.GetHashAndReset();
    }

    private bool IsWhole(string path, long contentBytes)
    {
        if (!File.Exists(path) || new FileInfo(path).Length != contentBytes + SHA256.HashSizeInBytes)
        {
            return false;
        }

        const int part = 1 << 20;
        using FileStream file = File.OpenRead(path);
        using IncrementalHash hash = StartHash();
        byte[] buffer = new byte[part];
        for (long left = contentBytes; left > 0;)
        {
            int count = (int)Math.Min(left, part);
            file.ReadExactly(buffer, 0, count);
            hash.AppendData(buffer, 0, count);
            left -= count;
        }

        file.ReadExactly(buffer, 0, SHA256.HashSizeInBytes);
        return hash.GetHashAndReset().AsSpan().SequenceEqual(buffer.AsSpan(0, SHA256.HashSizeInBytes));
    }

    private IncrementalHash StartHash()
    {
        IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes(_key));
        return hash;
    }

    private static unsafe Span<byte> Bytes(Tensor tensor) => new(tensor.HostPointer, checked((int)tensor.ByteLength));

    private string StatesOf(int block) => Path.Combine(Folder, $"states-{block:D5}");

    private string PathOf(int block) => Path.Combine(Folder, $"block-{block:D5}");

    private static FileStream Hold(string folder, string output)
    {
        try
        {
            return new FileStream(Path.Combine(folder, "lock"), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None);
        }
        catch (IOException)
        {
            Throw.Usage($"another process is quantizing into {output}", $"it holds {folder}", "wait for it, or choose another output");
            throw;
        }
    }
}
