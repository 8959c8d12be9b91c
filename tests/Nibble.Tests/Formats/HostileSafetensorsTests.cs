using System.Text;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tests.Formats;

/// <summary>Files that lie, each with the text that its refusal must contain; and odd ones that the format allows.</summary>
public class HostileSafetensorsTests
{
    private const string A = "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
    private const string BadJson = "invalid JSON in the header";

    /// <summary>Name of the case, header text, bytes of data, text in the refusal.</summary>
    public static TheoryData<string, string, int, string> Refused => new()
    {
        { "empty header", "", 0, BadJson },
        { "only white space", "   \n\t", 0, BadJson },
        { "array", "[]", 0, "expected StartObject, found StartArray" },
        { "null", "null", 0, "expected StartObject, found Null" },
        { "string", "\"a\"", 0, "expected StartObject, found String" },
        { "unclosed", "{", 0, BadJson },
        { "trailing comma", "{" + A + ",}", 4, BadJson },
        { "comment", "{/* */" + A + "}", 4, BadJson },
        { "two objects", "{}{}", 0, BadJson },
        { "text after the object", "{" + A + "}x", 4, BadJson },
        { "NUL after the object", "{" + A + "}\0\0", 4, BadJson },
        { "byte order mark", "\uFEFF{" + A + "}", 4, BadJson },
        { "single quotes", "{'a':1}", 0, BadJson },
        { "tensor is a number", "{\"a\":1}", 0, "tensor 'a': expected StartObject, found Number" },
        { "tensor is null", "{\"a\":null}", 0, "tensor 'a': expected StartObject, found Null" },
        { "no dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "tensor 'a' lacks dtype" },
        { "no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, "tensor 'a' lacks shape" },
        { "no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "tensor 'a' lacks data_offsets" },
        { "unknown key", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4, "unknown key 'x'" },
        { "unknown dtype", "{\"a\":{\"dtype\":\"F7\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "unknown dtype 'F7' of tensor 'a'" },
        { "lower-case dtype", "{\"a\":{\"dtype\":\"u8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "unknown dtype 'u8'" },
        { "dtype is a number", "{\"a\":{\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "dtype of tensor 'a': expected String" },
        { "shape is a number", "{\"a\":{\"dtype\":\"U8\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "shape of tensor 'a': expected StartArray" },
        { "extent is a text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[\"4\"],\"data_offsets\":[0,4]}}", 4, "expected whole numbers, found String" },
        { "extent is nested", "{\"a\":{\"dtype\":\"U8\",\"shape\":[[4]],\"data_offsets\":[0,4]}}", 4, "expected whole numbers, found StartArray" },
        { "negative extent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", 4, "-4 is no whole number ≥ 0" },
        { "minus zero", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-0],\"data_offsets\":[0,0]}}", 0, "-0 is no whole number ≥ 0" },
        { "real extent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}", 4, "4.0 is no whole number ≥ 0" },
        { "exponent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4e0],\"data_offsets\":[0,4]}}", 4, "4e0 is no whole number ≥ 0" },
        { "NaN extent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[NaN],\"data_offsets\":[0,4]}}", 4, BadJson },
        { "Infinity offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,Infinity]}}", 4, BadJson },
        { "negative offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-4,0]}}", 4, "-4 is no whole number ≥ 0" },
        { "one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}}", 4, "has 1 numbers, expected 2" },
        { "three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,8]}}", 4, "has 3 numbers, expected 2" },
        { "end before begin", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, "ends at 0, before it begins at 4" },
        { "offset beyond 64 bits", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,99999999999999999999]}}", 4, "overflow" },
        { "offset of 2^63", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,9223372036854775808]}}", 4, "overflow" },
        { "extent beyond 64 bits", "{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, "overflow" },
        { "product overflows to a small number", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "overflow: tensor 'a'" },
        { "bits overflow", "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "overflow: tensor 'a'" },
        { "overflow before a zero", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807,9223372036854775807,0],\"data_offsets\":[0,0]}}", 0, "overflow: tensor 'a'" },
        { "F4 of odd length", "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "misaligned: tensor 'a'" },
        { "F6 of 2 elements", "{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "takes 12 bits" },
        { "too few bytes for the shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "takes 16 bytes, but its offsets 0 to 4 hold 4" },
        { "too many bytes for the shape", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "takes 2 bytes, but its offsets 0 to 4 hold 4" },
        { "bytes for an empty tensor", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,4]}}", 4, "takes 0 bytes" },
        { "no bytes for a scalar", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, "takes 1 bytes" },
        { "hole at the beginning", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8, "(hole): tensor 'a' begins at 4" },
        { "hole between", "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}", 8, "(hole): tensor 'b' begins at 6, but tensor 'a' ends at 4" },
        { "overlap", "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, "(overlap): tensor 'b' begins at 2, but tensor 'a' ends at 4" },
        { "same bytes twice", "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "(overlap)" },
        { "empty tensor inside another", "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 4, "(overlap)" },
        { "empty tensor beyond the end", "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[9,9]}}", 4, "(hole)" },
        { "missing data", "{" + A + "}", 3, "take 4 bytes, the file has 3 after its header: the file is cut short" },
        { "trailing data", "{" + A + "}", 5, "take 4 bytes, the file has 5 after its header: bytes follow" },
        { "data without tensors", "{}", 1, "take 0 bytes, the file has 1" },
        { "huge tensor, small file", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1000000000000],\"data_offsets\":[0,4000000000000]}}", 4, "cut short" },
        { "duplicate tensor", "{" + A + "," + A + "}", 4, "duplicate key: tensor 'a' appears twice" },
        { "duplicate tensor by escape", "{" + A + "," + A.Replace("\"a\"", "\"\\u0061\"", StringComparison.Ordinal) + "}", 4, "duplicate key: tensor 'a'" },
        { "duplicate dtype", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "has dtype twice" },
        { "duplicate shape", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "has shape twice" },
        { "duplicate offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"data_offsets\":[0,4]}}", 4, "has data_offsets twice" },
        { "duplicate metadata", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate key: __metadata__" },
        { "duplicate key of metadata", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate key: 'k' appears twice in __metadata__" },
        { "metadata is a text", "{\"__metadata__\":\"pt\"}", 0, "__metadata__: expected StartObject" },
        { "metadata holds a number", "{\"__metadata__\":{\"k\":1}}", 0, "__metadata__.k: expected String, found Number" },
        { "metadata holds an object", "{\"__metadata__\":{\"k\":{}}}", 0, "__metadata__.k: expected String" },
        { "metadata is a tensor", "{\"__metadata__\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "__metadata__.shape: expected String" },
        { "lone surrogate", "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, BadJson },
        { "deep nesting", "{\"a\":" + new string('[', 5000), 0, "tensor 'a': expected StartObject" },
        { "deep nesting in a shape", "{\"a\":{\"shape\":" + new string('[', 5000), 0, "expected whole numbers" },
        { "control character in a name", "{\"a\\u0007\":1}", 0, "tensor 'a\\u0007'" },
    };

    /// <summary>Name of the case, header text, bytes of data, number of tensors.</summary>
    public static TheoryData<string, string, int, int> Accepted => new()
    {
        { "no tensors", "{}", 0, 0 },
        { "white space before", " \n\t{" + A + "}", 4, 1 },
        { "white space after", "{" + A + "}  \r\n", 4, 1 },
        { "scalar", "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1 },
        { "extent of zero", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,0,3],\"data_offsets\":[0,0]}}", 0, 1 },
        { "zero before a large product", "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807,9223372036854775807],\"data_offsets\":[0,0]}}", 0, 1 },
        { "empty tensors share an offset", "{\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]},\"f\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}," + A + "}", 4, 3 },
        { "order differs from the data's", "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}," + A + "}", 6, 2 },
        { "keys in another order", "{\"a\":{\"data_offsets\":[0,4],\"shape\":[4],\"dtype\":\"U8\"}}", 4, 1 },
        { "five dimensions", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,2,1,2],\"data_offsets\":[0,4]}}", 4, 1 },
        { "types that Nibble does not hold", "{\"a\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[4,5]}}", 5, 2 },
        { "empty name", "{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, 1 },
        { "metadata last", "{" + A + ",\"__metadata__\":{\"format\":\"pt\"}}", 4, 1 },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void IsRefusedWithItsOwnText(string name, string header, int dataBytes, string expected)
    {
        using TempFolder folder = new();
        NibbleException error = Assert.Throws<NibbleException>(() => Open(folder, Bytes(header, dataBytes)));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains(folder["x.safetensors"], error.What, StringComparison.Ordinal);
        Assert.True(error.Why!.Contains(expected, StringComparison.Ordinal), $"{name}: {error.Why}");
    }

    [Theory]
    [MemberData(nameof(Accepted))]
    public void IsRead(string name, string header, int dataBytes, int tensors)
    {
        using TempFolder folder = new();
        using SafetensorsFile file = Open(folder, Bytes(header, dataBytes));
        Assert.True(tensors == file.Entries.Count, name);
    }

    [Theory]
    [InlineData(new byte[0], "header too small: the file has 0 bytes")]
    [InlineData(new byte[] { 2, 0, 0, 0, 0, 0, 0 }, "header too small: the file has 7 bytes")]
    [InlineData(new byte[] { 3, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'}' }, "invalid header length: header of 3 bytes, but only 2")]
    [InlineData(new byte[] { 1, 0xE1, 0xF5, 5, 0, 0, 0, 0, (byte)'{', (byte)'}' }, "header too large: it claims 100,000,001 bytes")]
    [InlineData(new byte[] { 255, 255, 255, 255, 255, 255, 255, 255, (byte)'{', (byte)'}' }, "header too large: it claims 18,446,744,073,709,551,615")]
    [InlineData(new byte[] { 4, 0, 0, 0, 0, 0, 0, 0, (byte)'{', 0xFF, 0xFE, (byte)'}' }, "it is not UTF-8")]
    [InlineData(new byte[] { 6, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'"', 0xC0, 0x80, (byte)'"', (byte)'}' }, "it is not UTF-8")]
    public void RawBytesAreRefused(byte[] bytes, string expected)
    {
        using TempFolder folder = new();
        NibbleException error = Assert.Throws<NibbleException>(() => Open(folder, bytes));
        Assert.Contains(expected, error.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void TruncationAtAnyByteIsRefused()
    {
        using TempFolder folder = new();
        byte[] whole = Bytes("{\"__metadata__\":{\"format\":\"pt\"}," + A + ",\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[4,12]}}", 12);
        for (int length = 0; length < whole.Length; length++)
        {
            NibbleException error = Assert.Throws<NibbleException>(() => Open(folder, whole[..length]));
            Assert.Equal(ErrorKind.BadInput, error.Kind);
        }
    }

    /// <summary>The length field tells the truth, so the JSON itself ends early, at every byte.</summary>
    [Fact]
    public void AHeaderCutAtAnyByteIsRefused()
    {
        using TempFolder folder = new();
        string header = "{\"__metadata__\":{\"format\":\"p\\u0074\"}," + A + "}";
        for (int length = 0; length < header.Length; length++)
        {
            Assert.Throws<NibbleException>(() => Open(folder, Bytes(header[..length], 4)));
        }
    }

    [Fact]
    public void NoDamagedByteCausesAnythingButARefusal()
    {
        using TempFolder folder = new();
        byte[] whole = Bytes("{\"__metadata__\":{\"format\":\"pt\"}," + A + "}", 4);
        for (int at = 0; at < whole.Length; at++)
        {
            foreach (byte value in (ReadOnlySpan<byte>)[0, (byte)'"', (byte)'9', (byte)'{', (byte)'\\', 0x80, 0xFF])
            {
                byte[] damaged = [.. whole];
                damaged[at] = value;
                try
                {
                    Open(folder, damaged).Dispose();
                }
                catch (NibbleException error)
                {
                    Assert.Equal(ErrorKind.BadInput, error.Kind);
                }
            }
        }
    }

    [Fact]
    public void LimitsAreHeld()
    {
        using TempFolder folder = new();
        byte[] bytes = Bytes("{" + A + "}", 4);
        File.WriteAllBytes(folder["x"], bytes);
        Assert.Contains("header too large", Assert.Throws<NibbleException>(() => SafetensorsFile.Open(folder["x"], new Limits { SafetensorsHeaderBytes = 10 })).Why, StringComparison.Ordinal);
        Assert.Contains("too many tensors", Assert.Throws<NibbleException>(() => SafetensorsFile.Open(folder["x"], new Limits { Tensors = 0 })).Why, StringComparison.Ordinal);
    }

    [Fact]
    public void TypesAndRanksThatNibbleDoesNotHoldAreNamedOnLoading()
    {
        using TempFolder folder = new();
        using SafetensorsFile file = Open(folder, Bytes("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[4,5]}}", 5));
        NibbleException error = Assert.Throws<NibbleException>(() => file.Load("a"));
        Assert.Contains("F8_E4M3", error.What, StringComparison.Ordinal);
        Assert.Contains("F32", error.Why, StringComparison.Ordinal);
        Assert.Contains("[1, 1, 1, 1, 1]", Assert.Throws<NibbleException>(() => file.Load("b")).What, StringComparison.Ordinal);
        Assert.Equal(4, file.LoadBytes("a").ByteLength);
    }

    [Fact]
    public void ElementsOffTheirAlignmentAreCopied()
    {
        using TempFolder folder = new();
        string header = "{\"p\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[1,5]}}";
        byte[] bytes = [.. BitConverter.GetBytes((long)header.Length), .. Encoding.UTF8.GetBytes(header), 9, 1, 2, 3, 4];
        using SafetensorsFile file = Open(folder, bytes);
        Assert.Equal(0x04030201, file.Load("a").HostSpan<int>()[0]);
    }

    [Fact]
    public void AMissingFileIsNotFound()
    {
        using TempFolder folder = new();
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => SafetensorsFile.Open(folder["no"])).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => SafetensorsFile.Open(folder["no/no"])).Kind);
        Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => SafetensorsFile.Open(folder.Path)).Kind);
    }

    private static SafetensorsFile Open(TempFolder folder, byte[] bytes)
    {
        File.WriteAllBytes(folder["x.safetensors"], bytes);
        return SafetensorsFile.Open(folder["x.safetensors"]);
    }

    private static byte[] Bytes(string header, int dataBytes)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        return [.. BitConverter.GetBytes((long)json.Length), .. json, .. new byte[dataBytes]];
    }
}
