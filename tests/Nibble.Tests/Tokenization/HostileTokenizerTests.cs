using System.Text;
using System.Text.Json.Nodes;
using Nibble.IO;
using Nibble.Tokenization;
using static Nibble.Tests.Tokenization.HostileFile;

namespace Nibble.Tests.Tokenization;

/// <summary>Damaged, lying and unsupported files: each is refused as bad input with words that lead to the fault.</summary>
public class HostileTokenizerTests
{
    private static readonly HostileFile[] JsonFiles =
    [
        Text("empty file", "not valid JSON", "tokenizer.json", ""),
        Text("truncated JSON", "not valid JSON", "tokenizer.json", """{"model": {"type": "BPE", "vocab": {"a": 0"""),
        Text("an array", "not a JSON object", "tokenizer.json", "[1, 2]"),
        Text("deep nesting", "not valid JSON", "tokenizer.json", new string('[', 100_000)),
        Text("deep sequences", "not valid JSON", "tokenizer.json", Nested(200)),
        Text("no model", "model is missing", "tokenizer.json", """{"version": "1.0"}"""),
        Text("model is a text", "expected an object", "tokenizer.json", """{"model": "BPE"}"""),
        Text("equal keys", "not valid JSON", "tokenizer.json", """{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}"""),
        Text("half a surrogate pair as token", "valid", "tokenizer.json", """{"model": {"type": "BPE", "vocab": {"\ud800": 0}, "merges": []}}"""),
        Text("half a surrogate pair in a merge", "no valid text", "tokenizer.json", """{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["\ud800 a"]}}"""),
        new("bad UTF-8", "valid", new() { ["tokenizer.json"] = [.. "{\"model\": {\"type\": \"BPE\", \"vocab\": {\""u8, 0xC3, 0x28, .. "\": 0}, \"merges\": []}}"u8] }),
        Json("WordPiece", "supported: BPE", d => d["model"]!["type"] = "WordPiece"),
        Json("Unigram", "supported: BPE", d => d["model"]!["type"] = "Unigram"),
        Json("vocabulary is an array", "vocab", d => d["model"]!["vocab"] = new JsonArray()),
        Json("vocabulary is empty", "empty", d => d["model"]!["vocab"] = new JsonObject()),
        Json("id is a text", "no whole number", d => d["model"]!["vocab"]!["zz"] = "7"),
        Json("id is a fraction", "no whole number", d => d["model"]!["vocab"]!["zz"] = 1.5),
        Json("id is negative", "ids go from 0", d => d["model"]!["vocab"]!["zz"] = -1),
        Json("id is huge", "ids go from 0", d => d["model"]!["vocab"]!["zz"] = 2_000_000_000),
        Json("id is larger than 64 bits", "no whole number", d => d["model"]!["vocab"]!["zz"] = JsonNode.Parse("1e30")),
        Json("id is given twice", "given twice", d => d["model"]!["vocab"]!["zz"] = 5),
        Json("merges are an object", "merges", d => d["model"]!["merges"] = new JsonObject()),
        Json("merges are missing", "merges", d => d["model"]!.AsObject().Remove("merges")),
        Json("merge of three parts", "expected two tokens", d => d["model"]!["merges"] = new JsonArray("a b c")),
        Json("merge of one part", "expected two tokens", d => d["model"]!["merges"] = new JsonArray(new JsonArray("a"))),
        Json("merge of numbers", "expected two tokens", d => d["model"]!["merges"] = new JsonArray(new JsonArray(1, 2))),
        Json("merge of an unknown token", "has no token 'qqq'", d => d["model"]!["merges"] = new JsonArray("qqq a")),
        Json("merge into an unknown token", "has no token 'xq'", d => d["model"]!["merges"] = new JsonArray("x q")),
        Json("dropout", "dropout", d => d["model"]!["dropout"] = 0.1),
        Json("word suffix", "end_of_word_suffix", d => d["model"]!["end_of_word_suffix"] = "</w>"),
        Json("unknown token that is not there", "unk_token", d => d["model"]!["unk_token"] = "<none>"),
        Json("byte_fallback is a text", "true or false", d => d["model"]!["byte_fallback"] = "yes"),
    ];

    private static readonly HostileFile[] PipelineFiles =
    [
        Json("added tokens are an object", "an array", d => d["added_tokens"] = new JsonObject()),
        Json("added token is a number", "an array of objects", d => d["added_tokens"] = new JsonArray(1)),
        Json("added token without text", "would match everywhere", d => d["added_tokens"]![0]!["content"] = ""),
        Json("added token with an id that is taken", "belongs to", d => d["added_tokens"]![0]!["content"] = "other"),
        Json("added token twice", "belongs to", d => d["added_tokens"]!.AsArray().Add(d["added_tokens"]![0]!.DeepClone())),
        Json("added token with a huge id", "expected a value", d => d["added_tokens"]![0]!["id"] = 2_000_000_000),
        Json("unknown pre-tokenizer", "supported: Sequence", d => d["pre_tokenizer"]!["type"] = "BertPreTokenizer"),
        Json("unknown normalizer", "supported: Sequence", d => d["normalizer"] = new JsonObject { ["type"] = "Precompiled" }),
        Json("unknown decoder", "supported: Sequence", d => d["decoder"]!["type"] = "CTC"),
        Json("unknown post-processor", "supported: Template", d => d["post_processor"]!["type"] = "BertProcessing"),
        Json("type is missing", "type", d => d["pre_tokenizer"] = new JsonObject()),
        Json("pattern that does not close", "not understood", d => d["pre_tokenizer"] = Split("(a")),
        Json("pattern with an unknown class", "not understood", d => d["pre_tokenizer"] = Split(@"\p{Klingon}")),
        Json("pattern with an intersection", "not understood", d => d["pre_tokenizer"] = Split("[a-z&&[aeiou]]")),
        Json("pattern beyond U+FFFF", "not understood", d => d["pre_tokenizer"] = Split("🚀")),
        Json("split without a pattern", "pattern", d => d["pre_tokenizer"] = new JsonObject { ["type"] = "Split", ["behavior"] = "Isolated" }),
        Json("unknown behaviour", "expected one of", d => d["pre_tokenizer"] = Split("a", "Shuffled")),
        Json("two ByteLevel steps", "bytes of bytes", d => d["pre_tokenizer"] = Twice(d["pre_tokenizer"]!)),
        Json("template without the text", "stands in it 0 times", d => d["post_processor"] = Template()),
        Json("template with a token without ids", "gives no ids", d => d["post_processor"] = Template(new JsonObject { ["SpecialToken"] = new JsonObject { ["id"] = "<|x|>" } })),
        Config("config is damaged", "not valid JSON", "tokenizer_config.json", "{"),
        Config("config names an unknown EOS", "eos_token", "tokenizer_config.json", """{"eos_token": "<none>"}"""),
        Config("config gives BOS a number", "bos_token", "tokenizer_config.json", """{"bos_token": 1}"""),
        Config("EOS id beyond the vocabulary", "ends at id 299", "generation_config.json", """{"eos_token_id": [0, 300]}"""),
        Config("EOS id is a text", "eos_token_id", "config.json", """{"eos_token_id": "two"}"""),
    ];

    private static readonly HostileFile[] OtherFiles =
    [
        Merges("merge of an unknown token in merges.txt", "has no token 'c'", "#version: 0.2\na c\n"),
        Merges("line without a space", "line 2 is no merge", "#version: 0.2\nab\n"),
        Merges("line with two spaces", "line 1 is no merge", "a b c\n"),
        new("merges.txt is no UTF-8", "no list of merges", new() { ["vocab.json"] = "{\"a\": 0}"u8.ToArray(), ["merges.txt"] = [0xFF, 0xFE, 0x20, 0x61] }),
        OfClass("vocab.json of another class", "GPT2Tokenizer, Qwen2Tokenizer", "CLIPTokenizer"),
        new("added id in two spellings", "expected an id", new() { ["vocab.json"] = "{\"a\": 0}"u8.ToArray(), ["merges.txt"] = [], ["tokenizer_config.json"] = AddedTokens("5", "<x>", "05", "<y>") }),
        new("added token with two ids", "'<x>' twice", new() { ["tokenizer.model"] = SentencePieceFiles.Model(), ["tokenizer_config.json"] = AddedTokens("900", "<x>", "901", "<x>") }),
        Model("empty model", "the file is empty", []),
        Model("Git LFS pointer", "neither a SentencePiece", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"u8.ToArray()),
        Model("zip file", "neither a SentencePiece", "PK\x03\x04"u8.ToArray()),
        Model("number that never ends", "more than 64 bits", [0x0A, .. Enumerable.Repeat((byte)0xFF, 20)]),
        Model("length past the end", "are left", [0x0A, 0x7F, 0x0A, 0x01, 0x61]),
        Model("length of 2^63", "are left", [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x00]),
        Model("length past the end of a piece", "are left", [0x0A, 0x03, 0x0A, 0x09, 0x61]),
        Model("field number 0", "field number 0", [0x0A, 0x01, 0x00]),
        Model("group wire type", "wire type 3", [0x0A, 0x01, 0x23]),
        Model("piece of the wrong wire type", "wire type 0", [0x0A, 0x02, 0x08, 0x01]),
        Model("bad UTF-8 in a piece", "no valid UTF-8", SentencePieceFiles.Field(1, SentencePieceFiles.Field(1, [0xC3, 0x28]))),
        Model("piece twice", "twice", SentencePieceFiles.Model(["he"])),
        Model("piece without text", "damaged", SentencePieceFiles.Model([""])),
        Model("piece of 600 characters", "damaged", SentencePieceFiles.Model([new string('a', 600)])),
        Model("score that is no number", "damaged", [.. SentencePieceFiles.Piece("zz", float.NaN), .. SentencePieceFiles.Model()]),
        Model("piece of an unknown type", "damaged", [.. SentencePieceFiles.Piece("zz", 0, 9), .. SentencePieceFiles.Model()]),
        Model("Unigram model", "Unigram", SentencePieceFiles.Model(modelType: 1)),
        Model("word model", "type 3", SentencePieceFiles.Model(modelType: 3)),
        Model("character map", "maps characters", SentencePieceFiles.Model(normalizer: SentencePieceFiles.Field(2, [1, 2, 3]))),
        Model("byte pieces are missing", "byte pieces", [.. SentencePieceFiles.Piece("<0x00>", 0, 6), .. SentencePieceFiles.Field(2, [0x18, 0x02])]),
        Model("rank is no number", "line 2 is no rank", "YQ== 0\nYg== x\n"u8.ToArray()),
        Model("rank is negative", "line 2 is no rank", "YQ== 0\nYg== -5\n"u8.ToArray()),
        Model("invalid base64", "line 2 is no rank", "YQ== 0\nY*== 1\n"u8.ToArray()),
        Model("base64 without an end", "line 1 is no rank", "YQ 0\n"u8.ToArray()),
        Model("rank twice", "given twice", "YQ== 0\nYg== 0\n"u8.ToArray()),
        Model("token twice", "there twice", "YQ== 0\nYQ== 1\n"u8.ToArray()),
        Model("ranks with a hole", "no known model", "YQ== 0\nYg== 2\n"u8.ToArray()),
        Model("bytes without ranks", "has no rank", "YQ== 0\nYg== 1\n"u8.ToArray()),
        Model("huge rank", "ids go from 0", "YQ== 99999999999\n"u8.ToArray()),
        Model("token of 10,000 bytes", "line 2 is no rank", Encoding.ASCII.GetBytes($"YQ== 0\n{Convert.ToBase64String(new byte[10_000])} 1\n")),
    ];

    private static byte[] AddedTokens(string id, string text, string otherId, string otherText) => Encoding.UTF8.GetBytes(
        new JsonObject { ["added_tokens_decoder"] = new JsonObject { [id] = new JsonObject { ["content"] = text }, [otherId] = new JsonObject { ["content"] = otherText } } }.ToJsonString());

    private static readonly HostileFile[] All = [.. JsonFiles, .. PipelineFiles, .. OtherFiles];

    public static TheoryData<string> Names() => [.. All.Select(file => file.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void IsRefusedWithAClearError(string name)
    {
        HostileFile file = All.Single(candidate => candidate.Name == name);
        NibbleException refusal = file.Refusal();
        Assert.Equal(ErrorKind.BadInput, refusal.Kind);
        Assert.Contains(file.Says, refusal.Message, StringComparison.Ordinal);
        Assert.InRange(refusal.Message.Length, 20, 1200);
    }

    [Fact]
    public void NoTokenizerAtAllIsNotFoundAndSaysWhatWasLookedFor()
    {
        using TempFolder folder = new();
        NibbleException refusal = Assert.Throws<NibbleException>(() => TokenizerLoader.FromFolder(folder.Path));
        Assert.Equal(ErrorKind.NotFound, refusal.Kind);
        Assert.All(new[] { "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt" }, name => Assert.Contains(name, refusal.Message, StringComparison.Ordinal));
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => TokenizerLoader.FromFolder(folder["none"])).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => TokenizerLoader.FromFile(folder["none.json"])).Kind);

        File.WriteAllText(folder["vocab.json"], """{"a": 0}""");
        refusal = Assert.Throws<NibbleException>(() => TokenizerLoader.FromFolder(folder.Path));
        Assert.Equal(ErrorKind.NotFound, refusal.Kind);
        Assert.Contains("merges.txt", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CeilingsHold()
    {
        string path = Path.Combine(TinyTokenizers.Folder, "bytes.json");
        foreach (Limits limits in new[] { new Limits { JsonBytes = 1000 }, new Limits { VocabularyEntries = 299 }, new Limits { VocabularyEntries = 42 }, new Limits { JsonDepth = 2 } })
        {
            Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => TokenizerLoader.FromFile(path, limits)).Kind);
        }
    }

    [Fact]
    public void APatternThatBacktracksWithoutEndIsStopped()
    {
        JsonObject document = TinyTokenizers.Document("bytes");
        document["pre_tokenizer"] = Split("(a+)+$");
        Tokenizer tokenizer = TinyTokenizers.Load(document);
        Assert.Contains("too long", Assert.Throws<NibbleException>(() => tokenizer.Encode(new string('a', 60) + "!")).Message, StringComparison.Ordinal);
        Assert.NotEmpty(tokenizer.Encode("aaa"));
    }

    [Theory]
    [InlineData("tokenizer.json")]
    [InlineData("tokenizer.model")]
    [InlineData("ranks")]
    public void TruncatedAndScrambledFilesNeverFailInAnotherWay(string kind)
    {
        byte[] good = kind switch
        {
            "tokenizer.json" => File.ReadAllBytes(Path.Combine(TinyTokenizers.Folder, "bytes.json")),
            "tokenizer.model" => SentencePieceFiles.Model(),
            _ => Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 256).Select(value => $"{Convert.ToBase64String([(byte)value])} {value}\n"))),
        };
        using TempFolder folder = new();
        string path = folder[kind == "tokenizer.json" ? kind : "tokenizer.model"];
        Random random = new(5);
        for (int round = 0; round < 600; round++)
        {
            byte[] bad = good[..(round % 2 == 0 ? random.Next(good.Length) : good.Length)];
            for (int flips = random.Next(round % 2 == 0 ? 1 : 4) + (round % 2); flips > 0; flips--)
            {
                bad[random.Next(bad.Length)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(path, bad);
            try
            {
                Tokenizer tokenizer = TokenizerLoader.FromFile(path);
                tokenizer.Decode(tokenizer.Encode("Hello, 世界 🚀"));
            }
            catch (NibbleException error)
            {
                Assert.Equal(ErrorKind.BadInput, error.Kind);
            }
        }
    }

    private static JsonObject Split(string pattern, string behavior = "Isolated") =>
        new() { ["type"] = "Split", ["pattern"] = new JsonObject { ["Regex"] = pattern }, ["behavior"] = behavior };

    private static JsonObject Twice(JsonNode step) =>
        new() { ["type"] = "Sequence", ["pretokenizers"] = new JsonArray(step.DeepClone(), step.DeepClone()) };

    private static JsonObject Template(params JsonNode[] items) =>
        new() { ["type"] = "TemplateProcessing", ["single"] = new JsonArray(items) };

    private static string Nested(int depth) =>
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, \"normalizer\": "
        + string.Concat(Enumerable.Repeat("{\"type\": \"Sequence\", \"normalizers\": [", depth)) + string.Concat(Enumerable.Repeat("]}", depth)) + "}";
}
