using System.Security.Cryptography;
using Nibble.IO;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Finished blocks of a calibration in a hidden folder beside the output, one file a block. They count only for the very same work: a
/// key over model, plan, samples and program is stored with them. Every file ends with a hash, so that a torn one is not taken for whole.
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
            foreach (string file in Directory.EnumerateFiles(folder, "block-*"))
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

    /// <summary>The layers of a finished block, or null if its file is missing or damaged.</summary>
    public IReadOnlyList<WeightRecord>? Read(int block)
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
        return [.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => WeightRecord.Read(reader))];
    }

    /// <summary>Remembers a block.</summary>
    public void Write(int block, IReadOnlyList<WeightRecord> records)
    {
        using MemoryStream stream = new();
        using (BinaryWriter writer = new(stream, System.Text.Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(records.Count);
            foreach (WeightRecord record in records)
            {
                record.Write(writer);
            }
        }

        stream.Write(Hash(stream.GetBuffer().AsSpan(0, (int)stream.Length)));
        AtomicFile.WriteAllBytes(PathOf(block), stream.GetBuffer().AsSpan(0, (int)stream.Length));
        Finished = block + 1;
    }

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
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes(_key));
        hash.AppendData(content);
        return hash.GetHashAndReset();
    }

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
