using System.Text;
using Nibble.Formats;

namespace Nibble.Tests.Formats;

/// <summary>Writes headers byte by byte, right ones and wrong ones.</summary>
internal sealed class GgufBytes
{
    private readonly MemoryStream _bytes = new();
    private readonly BinaryWriter _writer;

    public GgufBytes() => _writer = new BinaryWriter(_bytes);

    public static GgufBytes Header(ulong tensors, ulong values, uint version = 3) =>
        new GgufBytes().Raw("GGUF"u8).U32(version).U64(tensors).U64(values);

    /// <summary>A small file with each kind of value, two tensors and their data.</summary>
    public static byte[] Good() => Header(2, 4)
        .Value("general.architecture", "llama")
        .Key("general.alignment", GgufKind.U32).U32(32)
        .Key("tokenizer.ggml.tokens", GgufKind.Array).U32((uint)GgufKind.String).U64(2).Text("a").Text("bc")
        .Key("x.flags", GgufKind.Array).U32((uint)GgufKind.Bool).U64(3).Raw([1, 0, 1])
        .Tensor("a.weight", GgufType.F32, 0, 4, 2)
        .Tensor("b.weight", GgufType.Q8_0, 32, 32)
        .Pad(32).Zeros(32 + 34).ToArray();

    public GgufBytes Raw(ReadOnlySpan<byte> bytes)
    {
        _writer.Write(bytes);
        return this;
    }

    public GgufBytes U32(uint value)
    {
        _writer.Write(value);
        return this;
    }

    public GgufBytes U64(ulong value)
    {
        _writer.Write(value);
        return this;
    }

    public GgufBytes Text(string text) => U64((ulong)Encoding.UTF8.GetByteCount(text)).Raw(Encoding.UTF8.GetBytes(text));

    public GgufBytes Key(string key, GgufKind kind) => Text(key).U32((uint)kind);

    public GgufBytes Value(string key, string value) => Key(key, GgufKind.String).Text(value);

    public GgufBytes Tensor(string name, GgufType type, ulong offset, params ulong[] dims)
    {
        Text(name).U32((uint)dims.Length);
        foreach (ulong dim in dims)
        {
            U64(dim);
        }

        return U32((uint)type).U64(offset);
    }

    public GgufBytes Pad(int alignment) => Zeros((alignment - ((int)_bytes.Length % alignment)) % alignment);

    public GgufBytes Zeros(int count) => Raw(new byte[count]);

    public byte[] ToArray() => _bytes.ToArray();
}
