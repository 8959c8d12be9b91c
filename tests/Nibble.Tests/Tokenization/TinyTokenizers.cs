using System.Text.Json.Nodes;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

/// <summary>The two small tokenizers of the goldens, as they are or with members replaced.</summary>
internal static class TinyTokenizers
{
    public static string Folder => Path.Combine(TestData.Goldens, "tokenizer-tiny");

    public static Tokenizer Bytes { get; } = TokenizerLoader.FromFile(Path.Combine(Folder, "bytes.json"));

    public static Tokenizer Characters { get; } = TokenizerLoader.FromFile(Path.Combine(Folder, "characters.json"));

    /// <summary>A document, to be changed.</summary>
    public static JsonObject Document(string name) => JsonNode.Parse(File.ReadAllText(Path.Combine(Folder, name + ".json")))!.AsObject();

    /// <summary>Reads a document as a file in a folder of its own.</summary>
    public static Tokenizer Load(JsonObject document) => Load(document.ToJsonString());

    /// <summary>Reads a text as a <c>tokenizer.json</c>.</summary>
    public static Tokenizer Load(string json)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["tokenizer.json"], json);
        return TokenizerLoader.FromFolder(folder.Path);
    }
}
