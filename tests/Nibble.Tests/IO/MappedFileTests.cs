using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tests.IO;

public unsafe class MappedFileTests
{
    [Fact]
    public void AnEmptyFileHasNoBytes()
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["a"], []);
        using MappedFile map = MappedFile.Open(folder["a"]);
        Assert.Equal(0, map.ByteLength);
        Assert.Equal(0, map.Span(0, 0).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => map.Span(0, 1).Length);
        map.DropPages();
    }

    [Fact]
    public void ContentStaysAfterItsPagesAreDropped()
    {
        using TempFolder folder = new();
        byte[] bytes = new byte[100_000];
        new Random(1).NextBytes(bytes);
        File.WriteAllBytes(folder["a"], bytes);
        using MappedFile map = MappedFile.Open(folder["a"]);
        foreach (PageAdvice advice in Enum.GetValues<PageAdvice>())
        {
            map.Advise(advice, 5000, 50_000);
            Assert.True(map.Span(0, bytes.Length).SequenceEqual(bytes));
        }

        map.DropPages();
        Assert.True(map.Span(0, bytes.Length).SequenceEqual(bytes));
    }

    [Fact]
    public void ReplacingTheFileByRenameLeavesTheMapAsItWas()
    {
        using TempFolder folder = new();
        AtomicFile.WriteAllText(folder["a"], "old");
        using MappedFile map = MappedFile.Open(folder["a"]);
        AtomicFile.WriteAllText(folder["a"], "newer");
        Assert.True(map.Span(0, 3).SequenceEqual("old"u8));
    }

    [Fact]
    public void ClosedMapsRefuseToBeRead()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["a"], "abc");
        MappedFile map = MappedFile.Open(folder["a"]);
        map.Dispose();
        map.Dispose();
        Assert.Throws<ObjectDisposedException>(() => map.Span(0, 1).Length);
    }

    /// <summary>A sparse file of 5 GiB: lengths and offsets beyond 32 bits, in the map, in the tensor and in the header.</summary>
    [SkippableFact]
    public void FilesBeyond4GiBAreAddressedRight()
    {
        using TempFolder folder = new();
        const long rows = 5L << 20;
        string header = $"{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{rows},1024],\"data_offsets\":[0,{rows * 1024}]}},\"b\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{rows * 1024},{rows * 1024 + 4}]}}}}";
        header = header.PadRight((header.Length + 7) / 8 * 8);
        long length = 8 + header.Length + rows * 1024 + 4;
        try
        {
            using FileStream file = new(folder["x"], FileMode.CreateNew);
            file.Write(BitConverter.GetBytes((long)header.Length));
            file.Write(System.Text.Encoding.ASCII.GetBytes(header));
            file.SetLength(length);
            file.Position = length - 5;
            file.Write([77, .. BitConverter.GetBytes(2.5f)]);
        }
        catch (IOException error)
        {
            Skip.If(true, $"the temporary folder holds no sparse file of 5 GiB: {error.Message}");
        }

        using SafetensorsFile tensors = SafetensorsFile.Open(folder["x"]);
        Tensor a = tensors.Load("a");
        Assert.Equal(rows * 1024, a.ByteLength);
        Assert.Equal(77, a.HostPointer[a.ByteLength - 1]);
        Assert.Equal(77, a.Slice((nint)rows - 1, 1).HostSpan<byte>()[1023]);
        Assert.Equal(2.5f, tensors.Load("b").HostSpan<float>()[0]);
        Assert.Throws<OverflowException>(() => a.HostSpan<byte>().Length);
        tensors.DropPages("a");
    }
}
