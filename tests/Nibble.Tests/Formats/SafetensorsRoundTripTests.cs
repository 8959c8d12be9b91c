using System.Text;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tests.Formats;

public class SafetensorsRoundTripTests
{
    [Fact]
    public void TensorsComeBackBitEqualUnderTheirNames()
    {
        using TempFolder folder = new();
        using Tensor a = Tensor.From<float>(new Shape(2, 3), DType.F32, [1, 2, 3, -4, float.NaN, 6]);
        using Tensor b = Tensor.From<ushort>(new Shape(3), DType.BF16, [0x3F80, 0x4000, 0xC000]);
        using Tensor c = Tensor.From<sbyte>(new Shape(), DType.I8, [-7]);
        using Tensor d = Tensor.From<long>(new Shape(0, 5), DType.I64, []);
        Safetensors.Save(folder["x.safetensors"], [("b", b), ("a", a), ("d", d), ("é\n", c)], new Dictionary<string, string> { ["k"] = "v" });

        using SafetensorsFile file = SafetensorsFile.Open(folder["x.safetensors"]);
        Assert.Equal(["a", "b", "d", "é\n"], file.Entries.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(a.HostSpan<int>(), file.Load("a").HostSpan<int>());
        Assert.Equal(b.HostSpan<ushort>(), file.Load("b").HostSpan<ushort>());
        Assert.Equal(c.HostSpan<sbyte>(), file.Load("é\n").HostSpan<sbyte>());
        Assert.Equal(new Shape(0, 5), file.Load("d").Shape);
        Assert.Equal(new Dictionary<string, string> { ["format"] = "pt", ["k"] = "v" }, file.Metadata);
    }

    [Fact]
    public void TheFileIsLaidOutAsTheReferenceWriterDoes()
    {
        using TempFolder folder = new();
        using Tensor one = Tensor.From<byte>(new Shape(1), DType.U8, [7]);
        using Tensor f = Tensor.From<float>(new Shape(1), DType.F32, [1]);
        Safetensors.Save(folder["x"], [("a", one), ("z", f), ("b", f)]);

        string text = Encoding.UTF8.GetString(File.ReadAllBytes(folder["x"])[8..]);
        const string header = """{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}""";
        Assert.StartsWith(header, text, StringComparison.Ordinal);
        Assert.Equal(0, BitConverter.ToInt64(File.ReadAllBytes(folder["x"])) % 8);
    }

    [Fact]
    public void BytesMayComeInAnyOrderAndInPieces()
    {
        using TempFolder folder = new();
        using (SafetensorsWriter writer = SafetensorsWriter.Create(folder["x"], [new("a", DType.U8, new Shape(3)), new("b", DType.F16, new Shape(1))]))
        {
            writer.Append("a", [1, 2]);
            writer.Append("b", [3, 4]);
            Assert.Throws<InvalidOperationException>(writer.Commit);
            Assert.Throws<ArgumentException>(() => writer.Append("a", [1, 2]));
            Assert.Throws<ArgumentException>(() => writer.Append("c", [1]));
            writer.Append("a", [9]);
            writer.Commit();
        }

        using SafetensorsFile file = SafetensorsFile.Open(folder["x"]);
        Assert.Equal([1, 2, 9], file.Load("a").HostSpan<byte>().ToArray());
        Assert.Equal(["x"], folder.Entries);
    }

    [Fact]
    public void AnUnfinishedFileLeavesNothing()
    {
        using TempFolder folder = new();
        using (SafetensorsWriter writer = SafetensorsWriter.Create(folder["x"], [new("a", DType.U8, new Shape(3))]))
        {
            writer.Append("a", [1]);
        }

        Assert.Empty(folder.Entries);
    }

    [Fact]
    public void ClosedFilesRefuseToBeRead()
    {
        using TempFolder folder = new();
        using Tensor f = Tensor.From<float>(new Shape(1), DType.F32, [1]);
        Safetensors.Save(folder["x"], [("a", f)]);
        Tensor view;
        using (SafetensorsFile file = SafetensorsFile.Open(folder["x"]))
        {
            view = file.Load("a");
            Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => file.Load("b")).Kind);
        }

        Assert.Throws<ObjectDisposedException>(() => view.HostSpan<float>().ToArray());
    }
}
