using System.Text.Json.Nodes;
using Nibble.Tokenization;

namespace Nibble.Tests.Tokenization;

public class TinyGoldenTests
{
    private static readonly JsonArray Variants =
        JsonNode.Parse(TestData.Golden("tokenizer-tiny", "golden.json"))!["variants"]!.AsArray();

    public static TheoryData<string> Names() => [.. Variants.Select(variant => (string)variant!["name"]!)];

    [Theory]
    [MemberData(nameof(Names))]
    public void TokensEqualTheReferenceImplementation(string name)
    {
        JsonNode variant = Variants.First(candidate => (string)candidate!["name"]! == name)!;
        JsonObject document = TinyTokenizers.Document((string)variant["base"]!);
        foreach ((string key, JsonNode? value) in variant["overrides"]!.AsObject())
        {
            JsonObject place = key.StartsWith("model.", StringComparison.Ordinal) ? document["model"]!.AsObject() : document;
            place[key[(key.IndexOf('.') + 1)..]] = value?.DeepClone();
        }

        Tokenizer tokenizer = TinyTokenizers.Load(document);
        foreach (JsonNode? item in variant["cases"]!.AsArray())
        {
            int[] ids = item!["ids"]!.AsArray().Select(id => (int)id!).ToArray();
            Assert.Equal(ids, tokenizer.Encode((string)item["text"]!));
            Assert.Equal((string)item["decoded"]!, tokenizer.Decode(ids, skipSpecialTokens: true));
        }
    }

    [Fact]
    public void TheEmbeddedVocabularyEqualsTheReferenceImplementation()
    {
        Tokenizer tokenizer = TokenizerLoader.FromFolder(Path.Combine(TestData.Assets, "nibble-gpt2-10m"));
        Assert.Equal(8192, tokenizer.VocabularySize);
        Assert.Equal((0, 0, false), (tokenizer.BosId, tokenizer.EosId, tokenizer.AddsBos));
        JsonNode golden = JsonNode.Parse(File.ReadAllText(Path.Combine(TestData.Goldens, "tokenizer", "golden.json")))!;
        foreach (JsonNode? item in golden["cases"]!.AsArray())
        {
            int[] ids = item!["ids"]!.AsArray().Select(id => (int)id!).ToArray();
            Assert.Equal(ids, tokenizer.Encode((string)item["text"]!, addSpecialTokens: false));
            Assert.Equal(item["tokens"]!.AsArray().Select(token => (string)token!), ids.Select(tokenizer.TokenText));
            Assert.Equal((string)item["decoded"]!, tokenizer.Decode(ids));
        }
    }
}
