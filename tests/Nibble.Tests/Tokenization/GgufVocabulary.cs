using System.Text;

namespace Nibble.Tests.Tokenization;

/// <summary>Just enough of GGUF to take the vocabulary out of a trusted test file.</summary>
internal sealed class GgufVocabulary : IDisposable
{
    private readonly BinaryReader _reader;

    private GgufVocabulary(string path) => _reader = new BinaryReader(File.OpenRead(path));

    /// <summary>The metadata: numbers, texts and arrays of them.</summary>
    public static Dictionary<string, object> Read(string path)
    {
        using GgufVocabulary file = new(path);
        Assert.Equal(0x46554747u, file._reader.ReadUInt32());
        Assert.InRange(file._reader.ReadUInt32(), 2u, 3u);
        file._reader.ReadUInt64();
        ulong count = file._reader.ReadUInt64();
        Dictionary<string, object> metadata = [];
        for (ulong i = 0; i < count; i++)
        {
            string key = file.Text();
            metadata[key] = file.Value(file._reader.ReadUInt32());
        }

        return metadata;
    }

    public void Dispose() => _reader.Dispose();

    private string Text() => Encoding.UTF8.GetString(_reader.ReadBytes(checked((int)_reader.ReadUInt64())));

    private object Value(uint type) => type switch
    {
        0 => _reader.ReadByte(),
        1 => _reader.ReadSByte(),
        2 => _reader.ReadUInt16(),
        3 => _reader.ReadInt16(),
        4 => _reader.ReadUInt32(),
        5 => _reader.ReadInt32(),
        6 => _reader.ReadSingle(),
        7 => _reader.ReadByte() != 0,
        8 => Text(),
        9 => Array(),
        10 => _reader.ReadUInt64(),
        11 => _reader.ReadInt64(),
        12 => _reader.ReadDouble(),
        _ => throw new InvalidDataException($"GGUF value of type {type}"),
    };

    private object[] Array()
    {
        uint type = _reader.ReadUInt32();
        object[] values = new object[_reader.ReadUInt64()];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Value(type);
        }

        return values;
    }
}
