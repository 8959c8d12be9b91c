using System.Runtime.CompilerServices;
using System.Text;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.PackCache;

/// <summary>
/// A file of packed weights, mapped: blocks as kernels read them, then an index (a key, and the small values of each packing), then a
/// footer that tells where the index is. Every byte is checked when the file is opened, by all threads: that also brings its pages in.
/// </summary>
internal sealed unsafe class PackFile : IDisposable
{
    private const ulong Magic = 0x31_4b_43_41_50_42_4e_21;
    private const int FooterBytes = 64;
    private const int LargeAlignment = 4096;

    private readonly MappedFile _file;
    private readonly Dictionary<string, byte[]> _packings = [];
    private readonly List<MappedBlock> _blocks = [];

    private PackFile(MappedFile file) => _file = file;

    /// <summary>Bytes of the file.</summary>
    public long ByteLength => _file.ByteLength;

    /// <summary>Opens a file made for <paramref name="key"/>; null and the reason if there is none, or it must not be used.</summary>
    public static PackFile? Open(string path, string key, CpuThreads threads, out string? problem)
    {
        problem = null;
        if (!File.Exists(path))
        {
            return null;
        }

        PackFile? file = null;
        try
        {
            file = new PackFile(MappedFile.Open(path));
            problem = file.Read(key, threads);
        }
        catch (Exception error) when (error is NibbleException or IOException or InvalidDataException or OverflowException or ArgumentException)
        {
            problem = error.Message;
        }

        if (problem is not null)
        {
            file?.Dispose();
            return null;
        }

        return file;
    }

    /// <summary>Writes packings to a file that then appears at once; gives its size.</summary>
    public static long Write(string path, string key, IReadOnlyList<(string Name, byte[] Index)> packings, IReadOnlyList<PackBlock> blocks)
    {
        long expected = blocks.Sum(block => (long)block.Storage.ByteLength + LargeAlignment) + packings.Sum(packing => (long)packing.Index.Length) + (1 << 16);
        using AtomicFile file = AtomicFile.Create(path, expected);
        using MemoryStream index = new();
        using BinaryWriter writer = new(index, Encoding.UTF8);
        writer.Write(key);
        writer.Write(blocks.Count);
        long at = 0;
        foreach (PackBlock block in blocks)
        {
            at = Pad(file, at, Alignment(block.Storage.ByteLength));
            writer.Write(at);
            writer.Write((long)block.Storage.ByteLength);
            ulong sum = PackSum.Start(block.Storage.ByteLength);
            for (nint done = 0; done < block.Storage.ByteLength; done += PackSum.Chunk)
            {
                int count = (int)nint.Min(PackSum.Chunk, block.Storage.ByteLength - done);
                sum = PackSum.Join(sum, PackSum.OfChunk(block.Storage.Pointer + done, count));
                file.Write(new ReadOnlySpan<byte>(block.Storage.Pointer + done, count));
            }

            writer.Write(sum);
            at += block.Storage.ByteLength;
        }

        writer.Write(packings.Count);
        foreach ((string name, byte[] packing) in packings)
        {
            writer.Write(name);
            writer.Write(packing.Length);
            writer.Write(packing);
        }

        // Kernels may read a vector past the last element.
        at = Pad(file, at + NativeStorage.Alignment, NativeStorage.Alignment, NativeStorage.Alignment);
        ReadOnlySpan<byte> values = index.GetBuffer().AsSpan(0, (int)index.Length);
        file.Write(values);
        Span<byte> footer = stackalloc byte[FooterBytes];
        footer.Clear();
        BitConverter.TryWriteBytes(footer, Magic);
        BitConverter.TryWriteBytes(footer[8..], at);
        BitConverter.TryWriteBytes(footer[16..], index.Length);
        BitConverter.TryWriteBytes(footer[24..], PackSum.Of(values));
        file.Write(footer);
        file.Commit();
        return at + index.Length + FooterBytes;
    }

    /// <summary>The values of a packing, or null.</summary>
    public PackReader? Find(string name) =>
        _packings.TryGetValue(name, out byte[]? values) ? new PackReader(values, i => i >= 0 && i < _blocks.Count ? _blocks[i] : throw new InvalidDataException("no such block")) : null;

    public void Dispose() => _file.Dispose();

    private static int Alignment(nint bytes) => bytes >= LargeAlignment ? LargeAlignment : NativeStorage.Alignment;

    private static long Pad(AtomicFile file, long at, int alignment, int more = 0)
    {
        long next = (at + alignment - 1) / alignment * alignment;
        file.Write(new byte[next - at + more]);
        return next;
    }

    private string? Read(string key, CpuThreads threads)
    {
        if (_file.ByteLength < FooterBytes)
        {
            return "it is too short";
        }

        ReadOnlySpan<byte> footer = _file.Span(_file.ByteLength - FooterBytes, FooterBytes);
        long start = BitConverter.ToInt64(footer[8..]), length = BitConverter.ToInt64(footer[16..]);
        if (BitConverter.ToUInt64(footer) != Magic || start < 0 || length is < 0 or > int.MaxValue || start > _file.ByteLength - FooterBytes - length)
        {
            return "its end is missing";
        }

        byte[] bytes = _file.Span((nint)start, (int)length).ToArray();
        if (PackSum.Of(bytes) != BitConverter.ToUInt64(footer[24..]))
        {
            return "its index is damaged";
        }

        using BinaryReader index = new(new MemoryStream(bytes), Encoding.UTF8);
        if (index.ReadString() != key)
        {
            return "it belongs to other files, another build or another kind of processor";
        }

        ulong[] sums = new ulong[index.ReadInt32()];
        for (int i = 0; i < sums.Length; i++)
        {
            (long at, long size) = (index.ReadInt64(), index.ReadInt64());
            sums[i] = index.ReadUInt64();
            if (at < 0 || size < 0 || at > start - size)
            {
                return "a block lies outside the file";
            }

            _blocks.Add(new MappedBlock(_file, (nint)at, (nint)size));
        }

        int packings = index.ReadInt32();
        for (int i = 0; i < packings; i++)
        {
            string name = index.ReadString();
            _packings[name] = index.ReadBytes(index.ReadInt32());
        }

        return Check(sums, threads);
    }

    private string? Check(ulong[] sums, CpuThreads threads)
    {
        _file.Advise(PageAdvice.WillNeed, 0, _file.ByteLength);
        (int Block, int Chunk)[] parts = [.. Enumerable.Range(0, _blocks.Count).SelectMany(i => Enumerable.Range(0, Chunks(_blocks[i])).Select(j => (i, j)))];
        ulong[] found = new ulong[parts.Length];
        threads.Run(parts.Length, new SumJob { File = this, Parts = parts, Found = found });
        int part = 0;
        for (int i = 0; i < sums.Length; i++)
        {
            ulong sum = PackSum.Start(_blocks[i].ByteLength);
            for (int j = 0; j < Chunks(_blocks[i]); j++)
            {
                sum = PackSum.Join(sum, found[part++]);
            }

            if (sum != sums[i])
            {
                return "its numbers are damaged";
            }
        }

        return null;
    }

    private static int Chunks(MappedBlock block) => checked((int)((block.ByteLength + PackSum.Chunk - 1) / PackSum.Chunk));

    private struct SumJob : ICpuJob
    {
        public PackFile File;
        public (int Block, int Chunk)[] Parts;
        public ulong[] Found;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            (int index, int chunk) = Parts[part];
            MappedBlock block = File._blocks[index];
            nint first = (nint)chunk * PackSum.Chunk;
            Found[part] = PackSum.OfChunk(block.Pointer + first, (int)nint.Min(PackSum.Chunk, block.ByteLength - first));
        }
    }

    /// <summary>A part of the mapped file; the file is its owner's to close.</summary>
    private sealed class MappedBlock(MappedFile file, nint offset, nint length) : HostStorage(length)
    {
        public override byte* Pointer => file.Pointer + offset;

        public override void Dispose()
        {
        }
    }
}
