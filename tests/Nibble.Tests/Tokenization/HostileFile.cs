using System.Text;
using System.Text.Json.Nodes;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

/// <summary>A folder of files that must be refused, and a word that the refusal must contain.</summary>
internal sealed record HostileFile(string Name, string Says, Dictionary<string, byte[]> Files)
{
    /// <summary>The small byte-level tokenizer with a change.</summary>
    public static HostileFile Json(string name, string says, Action<JsonObject> change)
    {
        JsonObject document = TinyTokenizers.Document("bytes");
        change(document);
        return Text(name, says, "tokenizer.json", document.ToJsonString());
    }

    public static HostileFile Text(string name, string says, string file, string content) =>
        new(name, says, new() { [file] = Encoding.UTF8.GetBytes(content) });

    public static HostileFile Model(string name, string says, byte[] content) => new(name, says, new() { ["tokenizer.model"] = content });

    /// <summary>A good vocabulary with given merges.</summary>
    public static HostileFile Merges(string name, string says, string merges) =>
        Text(name, says, "merges.txt", merges).With("vocab.json", """{"a": 0, "b": 1, "ab": 2}""");

    /// <summary>A good vocabulary with merges and the name of transformers' class.</summary>
    public static HostileFile OfClass(string name, string says, string tokenizerClass) =>
        Merges(name, says, "a b\n").With("tokenizer_config.json", $$"""{"tokenizer_class": "{{tokenizerClass}}"}""");

    /// <summary>The small tokenizer with a config beside it.</summary>
    public static HostileFile Config(string name, string says, string file, string content) =>
        Text(name, says, file, content).With("tokenizer.json", File.ReadAllText(Path.Combine(TinyTokenizers.Folder, "bytes.json")));

    private HostileFile With(string file, string content)
    {
        Files[file] = Encoding.UTF8.GetBytes(content);
        return this;
    }

    /// <summary>Loads the folder and returns how it was refused.</summary>
    public NibbleException Refusal()
    {
        using TempFolder folder = new();
        foreach ((string file, byte[] content) in Files)
        {
            File.WriteAllBytes(folder[file], content);
        }

        return Assert.Throws<NibbleException>(() => TokenizerLoader.FromFolder(folder.Path));
    }
}
