using System.Runtime.InteropServices;
using System.Text;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.PackCache;

/// <summary>Takes down what a packing consists of: small values into the index of a cache file, memory as blocks for its body.</summary>
internal sealed class PackWriter(List<PackBlock> blocks)
{
    private readonly MemoryStream _index = new();

    /// <summary>The index so far.</summary>
    public byte[] Index => _index.ToArray();

    public void Number(long value) => _index.Write(BitConverter.GetBytes(value));

    public void Flag(bool value) => Number(value ? 1 : 0);

    public void Float(float value) => Number(BitConverter.SingleToInt32Bits(value));

    public void Text(string value) => Bytes(Encoding.UTF8.GetBytes(value));

    public void Floats(ReadOnlySpan<float> values) => Bytes(MemoryMarshal.AsBytes(values));

    public void Ints(ReadOnlySpan<int> values) => Bytes(MemoryMarshal.AsBytes(values));

    public void Bytes(ReadOnlySpan<byte> values)
    {
        Number(values.Length);
        _index.Write(values);
    }

    /// <summary>Memory that a kernel reads in place.</summary>
    public void Block(HostStorage storage)
    {
        Number(blocks.Count);
        blocks.Add(new PackBlock(storage));
    }
}

/// <summary>Memory on its way to a cache file.</summary>
/// <param name="Storage">The memory; whoever owns the packing keeps it.</param>
internal sealed record PackBlock(HostStorage Storage);

/// <summary>Gives back what <see cref="PackWriter"/> took down, in the same order.</summary>
internal sealed class PackReader(byte[] index, Func<int, HostStorage> block)
{
    private int _at;

    public long Number() => BitConverter.ToInt64(Take(sizeof(long)));

    public int Int() => checked((int)Number());

    public nint Size() => checked((nint)Number());

    public bool Flag() => Number() != 0;

    public float Float() => BitConverter.Int32BitsToSingle((int)Number());

    public string Text() => Encoding.UTF8.GetString(Bytes());

    public float[] Floats() => MemoryMarshal.Cast<byte, float>(Bytes()).ToArray();

    public int[] Ints() => MemoryMarshal.Cast<byte, int>(Bytes()).ToArray();

    public ReadOnlySpan<byte> Bytes() => Take(Int());

    /// <summary>A block of the file, which must have this many bytes: kernels rely on it.</summary>
    public HostStorage Block(nint bytes)
    {
        HostStorage storage = block(Int());
        return storage.ByteLength == bytes ? storage : throw new InvalidDataException($"a block has {storage.ByteLength:N0} bytes where {bytes:N0} belong");
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count < 0 || count > index.Length - _at)
        {
            throw new InvalidDataException("the index ends too early");
        }

        _at += count;
        return index.AsSpan(_at - count, count);
    }
}
