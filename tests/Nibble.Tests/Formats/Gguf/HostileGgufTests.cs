using System.Diagnostics;
using System.Globalization;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tests.Formats;

/// <summary>Files that lie, each with the text that its refusal must contain; and odd ones that the format allows.</summary>
public class HostileGgufTests
{
    private const ulong Huge = ulong.MaxValue;

    private static readonly Dictionary<string, (Func<GgufBytes> Bytes, string Expected)> Cases = new()
    {
        ["empty file"] = (() => new GgufBytes(), "the file ends inside the first four bytes"),
        ["three bytes"] = (() => new GgufBytes().Raw("GGU"u8), "the file ends inside the first four bytes"),
        ["another magic"] = (() => new GgufBytes().Raw("GGML"u8).U32(3).U64(0).U64(0), "no GGUF file"),
        ["lower-case magic"] = (() => new GgufBytes().Raw("gguf"u8).U32(3).U64(0).U64(0), "no GGUF file"),
        ["LFS pointer"] = (() => new GgufBytes().Raw("version https://git-lfs"u8), "Git LFS pointer"),
        ["version 0"] = (() => GgufBytes.Header(0, 0, 0), "version 0 is not supported"),
        ["version 1"] = (() => GgufBytes.Header(0, 0, 1), "version 1 is not supported"),
        ["version 4"] = (() => GgufBytes.Header(0, 0, 4), "version 4 is not supported"),
        ["version 65539"] = (() => GgufBytes.Header(0, 0, 65539), "version 65539 is not supported"),
        ["big-endian"] = (() => GgufBytes.Header(0, 0, 3u << 24), "byte order of big-endian"),
        ["huge number of tensors"] = (() => GgufBytes.Header(Huge, 0), "claims 18,446,744,073,709,551,615 tensors"),
        ["negative number of tensors"] = (() => GgufBytes.Header(1UL << 63, 0), "claims 9,223,372,036,854,775,808 tensors"),
        ["more tensors than bytes"] = (() => GgufBytes.Header(100, 0).Zeros(200), "claims 100 tensors"),
        ["huge number of values"] = (() => GgufBytes.Header(0, Huge), "values of metadata"),
        ["more values than bytes"] = (() => GgufBytes.Header(0, 10).Zeros(60), "claims 10 values"),
        ["number of values wraps"] = (() => GgufBytes.Header(0, (1UL << 61) + 1).Zeros(100), "values of metadata"),
        ["empty key"] = (() => GgufBytes.Header(0, 1).Value("", "x"), "key 0 is empty"),
        ["key twice"] = (() => GgufBytes.Header(0, 2).Value("a", "x").Value("a", "y"), "the key a is there twice"),
        ["key longer than the file"] = (() => GgufBytes.Header(0, 1).U64(1000).Zeros(20), "key 0 has 1,000 bytes"),
        ["key of 2^64 − 1"] = (() => GgufBytes.Header(0, 1).U64(Huge).Zeros(20), "key 0 has 18,446,744,073,709,551,615 bytes"),
        ["key of 2^63"] = (() => GgufBytes.Header(0, 1).U64(1UL << 63).Zeros(20), "key 0 has 9,223,372,036,854,775,808 bytes"),
        ["key is no UTF-8"] = (() => GgufBytes.Header(0, 1).U64(2).Raw([0xC3, 0x28]).U32(4).U32(1), "key 0 is no UTF-8"),
        ["unknown kind"] = (() => GgufBytes.Header(0, 1).Text("a").U32(13).Zeros(8), "unknown type 13"),
        ["kind of 2^32 − 1"] = (() => GgufBytes.Header(0, 1).Text("a").U32(uint.MaxValue).Zeros(8), "unknown type 4294967295"),
        ["text longer than the file"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.String).U64(99).Zeros(8), "a has 99 bytes"),
        ["text of 2^64 − 1"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.String).U64(Huge).Zeros(8), "bytes"),
        ["scalar beyond the end"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.U64).Zeros(7), "ends inside a"),
        ["truth value of 2"] = (() => GgufBytes.Header(0, 1).Key("abc", GgufKind.Bool).Raw([2]), "neither true nor false"),
        ["truth value of 255 in an array"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(7).U64(2).Raw([1, 255]), "neither true nor false"),
        ["array of arrays"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(9).U64(1).U32(4).U64(1).U32(0), "array of arrays"),
        ["array of an unknown kind"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(77).U64(1).Zeros(8), "unknown type 77"),
        ["array longer than the file"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(4).U64(9).Zeros(32), "claims 9 elements"),
        ["array of 2^64 − 1"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(0).U64(Huge).Zeros(32), "elements of U8"),
        ["array whose bytes wrap"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(10).U64(1UL << 61).Zeros(32), "elements of U64"),
        ["array above 2^30"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(0).U64((1UL << 30) + 1).Zeros(32), "claims 1,073,741,825"),
        ["texts more than bytes"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(8).U64(5).Zeros(32), "claims 5 elements"),
        ["text in an array beyond the end"] = (() => GgufBytes.Header(0, 1).Key("a", GgufKind.Array).U32(8).U64(2).Text("x").U64(50).Zeros(3), "an element of a has 50 bytes"),
        ["alignment 0"] = (() => Aligned(0), "power of two"),
        ["alignment 3"] = (() => Aligned(3), "power of two"),
        ["alignment 24"] = (() => Aligned(24), "power of two"),
        ["alignment 2^31"] = (() => Aligned(1u << 31), "power of two"),
        ["alignment 2^30"] = (() => Aligned(1u << 30), "ends beyond the file"),
        ["alignment of type U64"] = (() => GgufBytes.Header(0, 1).Key("general.alignment", GgufKind.U64).U64(32), "type U32, not U64"),
        ["alignment is a text"] = (() => GgufBytes.Header(0, 1).Value("general.alignment", "32"), "type U32, not String"),
        ["alignment is an array"] = (() => GgufBytes.Header(0, 1).Key("general.alignment", GgufKind.Array).U32(4).U64(1).U32(32), "type U32, not Array"),
        ["name of 64 bytes"] = (() => One(new string('a', 64), GgufType.F32, 0, 4), "more than 63 bytes"),
        ["name of 32 characters of two bytes"] = (() => One(new string('é', 32), GgufType.F32, 0, 4), "more than 63 bytes"),
        ["name is no UTF-8"] = (() => GgufBytes.Header(1, 0).U64(2).Raw([0xFF, 0xFE]).Zeros(40), "no UTF-8"),
        ["name twice"] = (() => GgufBytes.Header(2, 0).Tensor("a", GgufType.F32, 0, 8).Tensor("a", GgufType.F32, 32, 8).Pad(32).Zeros(64), "'a' is there twice"),
        ["five dimensions"] = (() => One("a", GgufType.F32, 0, 1, 1, 1, 1, 1), "has 5 dimensions"),
        ["2^32 − 1 dimensions"] = (() => GgufBytes.Header(1, 0).Text("a").U32(uint.MaxValue).Zeros(64), "has 4,294,967,295 dimensions"),
        ["negative dimension"] = (() => One("a", GgufType.F32, 0, Huge), "dimension of -1"),
        ["smallest dimension"] = (() => One("a", GgufType.F32, 0, 1UL << 63), "dimension of -9223372036854775808"),
        ["product wraps to 0"] = (() => One("a", GgufType.F32, 0, 1UL << 32, 1UL << 32), "beyond 63 bits"),
        ["product wraps to 4"] = (() => One("a", GgufType.F32, 0, (1UL << 62) + 1, 4), "beyond 63 bits"),
        ["three dimensions wrap"] = (() => One("a", GgufType.Q4_0, 0, 1UL << 30, 1UL << 30, 1UL << 4), "beyond 63 bits"),
        ["bytes wrap"] = (() => One("a", GgufType.F32, 0, 1UL << 62), "beyond 63 bits"),
        ["overflow beside a zero"] = (() => One("a", GgufType.F32, 0, 1UL << 40, 1UL << 40, 0), "beyond 63 bits"),
        ["type 4, given up"] = (() => One("a", (GgufType)4, 0, 32), "given up"),
        ["type 5, given up"] = (() => One("a", (GgufType)5, 0, 32), "given up"),
        ["type 31, given up"] = (() => One("a", (GgufType)31, 0, 32), "given up"),
        ["type 38, given up"] = (() => One("a", (GgufType)38, 0, 32), "given up"),
        ["type 43"] = (() => One("a", (GgufType)43, 0, 32), "no such type"),
        ["type −1"] = (() => One("a", (GgufType)(-1), 0, 32), "no such type"),
        ["type 2^31"] = (() => One("a", (GgufType)int.MinValue, 0, 32), "no such type"),
        ["row of 33 in blocks of 32"] = (() => One("a", GgufType.Q8_0, 0, 33), "needs a multiple of 32"),
        ["row of 128 in blocks of 256"] = (() => One("a", GgufType.Q4_K, 0, 128, 2), "needs a multiple of 256"),
        ["scalar of blocks"] = (() => One("a", GgufType.Q8_0, 0), "needs a multiple of 32"),
        ["offset not 0"] = (() => One("a", GgufType.F32, 32, 4), "begins at 32"),
        ["offset of 2^64 − 32"] = (() => One("a", GgufType.F32, Huge - 31, 4), "begins at 18,446,744,073,709,551,584"),
        ["hole"] = (() => GgufBytes.Header(2, 0).Tensor("a", GgufType.F32, 0, 8).Tensor("b", GgufType.F32, 64, 8).Pad(32).Zeros(128), "'b' begins at 64"),
        ["overlap"] = (() => GgufBytes.Header(2, 0).Tensor("a", GgufType.F32, 0, 16).Tensor("b", GgufType.F32, 32, 8).Pad(32).Zeros(128), "'b' begins at 32"),
        ["offset without padding"] = (() => GgufBytes.Header(2, 0).Tensor("a", GgufType.F32, 0, 3).Tensor("b", GgufType.F32, 12, 3).Pad(32).Zeros(64), "'b' begins at 12"),
        ["no data"] = (() => GgufBytes.Header(1, 0).Tensor("a", GgufType.F32, 0, 8), "ends beyond the file"),
        ["data one byte short"] = (() => GgufBytes.Header(1, 0).Tensor("a", GgufType.F32, 0, 8).Pad(32).Zeros(31), "ends beyond the file"),
        ["tensor larger than the file"] = (() => One("a", GgufType.F32, 0, 1000), "takes 4,000 bytes"),
        ["tensor of 4 TB"] = (() => One("a", GgufType.F32, 0, 1UL << 40), "takes 4,398,046,511,104 bytes"),
    };

    public static TheoryData<string> Names => [.. Cases.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Refused(string name)
    {
        (Func<GgufBytes> bytes, string expected) = Cases[name];
        NibbleException error = Assert.Throws<NibbleException>(() => Open(bytes().ToArray()));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryTruncationIsRefused()
    {
        byte[] good = GgufBytes.Good();
        Assert.Equal(2, Open(good));
        for (int length = 0; length < good.Length; length++)
        {
            NibbleException error = Assert.Throws<NibbleException>(() => Open(good[..length]));
            Assert.Equal(ErrorKind.BadInput, error.Kind);
        }
    }

    /// <summary>Any byte of the header may be anything: the file opens or is refused, and nothing else happens.</summary>
    [Fact]
    public void NoChangedByteBreaksTheReader()
    {
        byte[] good = GgufBytes.Good();
        foreach (byte value in new byte[] { 0, 1, 9, 0x7F, 0x80, 0xFF })
        {
            for (int at = 0; at < good.Length - 66; at++)
            {
                byte[] changed = [.. good];
                changed[at] = value;
                Exception? error = Record.Exception(() => Open(changed));
                Assert.True(error is null or NibbleException, $"byte {at} = {value}: {error}");
            }
        }
    }

    [Fact]
    public void OddFilesThatTheFormatAllows()
    {
        Assert.Equal(0, Open(GgufBytes.Header(0, 0).ToArray()));
        Assert.Equal(0, Open(GgufBytes.Header(0, 0, 2).ToArray()));
        Assert.Equal(1, Open(One("a", GgufType.F32, 0).ToArray()));
        Assert.Equal(1, Open(One("a", GgufType.F32, 0, 0, 5).ToArray()));
        Assert.Equal(1, Open(One(new string('a', 63), GgufType.F32, 0, 4).ToArray()));
        Assert.Equal(1, Open(Aligned(1).ToArray()));
        Assert.Equal(1, Open(Aligned(1024).Zeros(1024).ToArray()));
    }

    [Fact]
    public void AVocabularyOf128000TokensOpensAtOnce()
    {
        GgufBytes bytes = GgufBytes.Header(0, 3).Key("tokenizer.ggml.tokens", GgufKind.Array).U32(8).U64(128_000);
        for (int i = 0; i < 128_000; i++)
        {
            bytes.Text(i.ToString("D8", CultureInfo.InvariantCulture));
        }

        bytes.Key("tokenizer.ggml.scores", GgufKind.Array).U32(6).U64(128_000).Zeros(512_000);
        bytes.Key("tokenizer.ggml.merges", GgufKind.Array).U32(8).U64(280_000);
        for (int i = 0; i < 280_000; i++)
        {
            bytes.Text("aaaa bbbb");
        }

        using TempFolder folder = new();
        File.WriteAllBytes(folder["v.gguf"], bytes.ToArray());
        GgufFile.Open(folder["v.gguf"]).Dispose();
        Stopwatch watch = Stopwatch.StartNew();
        using GgufFile file = GgufFile.Open(folder["v.gguf"]);
        Assert.True(watch.ElapsedMilliseconds < 500, $"{watch.ElapsedMilliseconds} ms");
        Assert.Equal("00127999", file.Metadata["tokenizer.ggml.tokens"]!.Texts()[^1]);
    }

    [Fact]
    public void ValuesHaveTheirTypes()
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["v.gguf"], GgufBytes.Good());
        using GgufFile file = GgufFile.Open(folder["v.gguf"]);
        Assert.Equal("llama", file.Metadata.Text("general.architecture"));
        Assert.Equal(32, file.Metadata.Int("general.alignment"));
        Assert.Equal(["a", "bc"], file.Metadata["tokenizer.ggml.tokens"]!.Texts());
        Assert.Contains("expected whole numbers", Assert.Throws<NibbleException>(() => file.Metadata.Int("general.architecture")).Message, StringComparison.Ordinal);
        Assert.Contains("expected texts", Assert.Throws<NibbleException>(() => file.Metadata["x.flags"]!.Texts()).Message, StringComparison.Ordinal);
        Assert.Contains("is missing", Assert.Throws<NibbleException>(() => file.Metadata.Int("nothing")).Message, StringComparison.Ordinal);
        Assert.Equal([2, 4], file.Find("a.weight")!.Extents);
    }

    private static GgufBytes One(string name, GgufType type, ulong offset, params ulong[] dims) =>
        GgufBytes.Header(1, 0).Tensor(name, type, offset, dims).Pad(32).Zeros(64);

    private static GgufBytes Aligned(uint alignment) =>
        GgufBytes.Header(1, 1).Key("general.alignment", GgufKind.U32).U32(alignment).Tensor("a", GgufType.F32, 0, 4).Pad(32).Zeros(64);

    private static int Open(byte[] bytes)
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["a.gguf"], bytes);
        using GgufFile file = GgufFile.Open(folder["a.gguf"]);
        return file.Tensors.Count;
    }
}
