using Nibble.Formats;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tests.Quantization;
using Nibble.Tests.Tokenization;
using Nibble.Tokenization;

namespace Nibble.Tests.Formats;

/// <summary>Models through GGUF and back: names, rows of heads, tokenizers, metadata.</summary>
public class GgufModelTests
{
    private const string Text = "def add(self, x):\n    return x + 12345  # naïve <|endoftext|>'s";

    public static TheoryData<string> Models => ["nibble-llama-4m", "nibble-gpt2-10m"];

    [Theory]
    [MemberData(nameof(Models))]
    public void TheSameLogitsAsTheFolder(string name)
    {
        using TempFolder folder = new();
        string source = Path.Combine(TestData.Assets, name);
        ModelConverter.Convert(source, folder["m.gguf"], "bf16");
        using LoadedModel expected = LoadedModel.Load(source), actual = LoadedModel.Load(folder["m.gguf"]);
        int[] ids = expected.Tokenizer.Encode(Text);
        Assert.Equal(ids, actual.Tokenizer.Encode(Text));
        Assert.Equal(expected.Tokenizer.Fingerprint, actual.Tokenizer.Fingerprint);
        Assert.Equal(expected.EosIds, actual.EosIds);
        Assert.Equal(expected.LogLikelihoods(ids), actual.LogLikelihoods(ids));
        Assert.Empty(actual.Warnings);
    }

    [Theory]
    [InlineData("nibble-llama-4m", "q8_0", 0.05)]
    [InlineData("nibble-llama-4m", "q6_k", 0.1)]
    [InlineData("nibble-llama-4m", "q4_k", 0.4)]
    [InlineData("nibble-llama-4m", "q4_1", 0.4)]
    [InlineData("nibble-gpt2-10m", "q8_0", 0.05)]
    [InlineData("nibble-gpt2-10m", "q5_1", 0.2)]
    [InlineData("nibble-gpt2-10m", "iq4_nl", 0.4)]
    public void QuantizedFilesRunOnTheirCodes(string name, string type, double tolerance)
    {
        using TempFolder folder = new();
        string source = Path.Combine(TestData.Assets, name);
        ModelConverter.Convert(source, folder["m.gguf"], type);
        ModelConverter.Convert(folder["m.gguf"], folder["dense"], "f32");
        using LoadedModel dense = LoadedModel.Load(source), actual = LoadedModel.Load(folder["m.gguf"]), back = LoadedModel.Load(folder["dense"]);
        int[] ids = dense.Tokenizer.Encode(Text);
        Assert.Equal(ids, back.Tokenizer.Encode(Text));
        double expected = dense.LogLikelihoods(ids).Average(), found = actual.LogLikelihoods(ids).Average();
        Assert.InRange(found, expected - tolerance, expected + tolerance);

        // Packed codes and the dense numbers that they stand for give the same products.
        float[] packed = actual.LogLikelihoods(ids), unpacked = back.LogLikelihoods(ids);
        Assert.All(packed.Zip(unpacked), pair => Assert.Equal(pair.Second, pair.First, 1e-4f));
    }

    [Theory]
    [InlineData("added_tokens.json", "{\"<|im_start|>\": 277, \"<tool>\": 278}")]
    [InlineData("tokenizer_config.json", "{\"added_tokens_decoder\": {\"277\": {\"content\": \"<|im_start|>\", \"special\": true}, \"278\": {\"content\": \"<tool>\", \"normalized\": false}}}")]
    public void TokensAddedBesideASentencePieceModelComeAlong(string file, string content)
    {
        using TempFolder folder = new();
        string source = MethodTable.WriteModel(folder["model"], "llama");
        Array.ForEach([.. HfFolderWriter.TokenizerFiles], name => File.Delete(Path.Combine(source, name)));
        File.WriteAllBytes(Path.Combine(source, "tokenizer.model"), SentencePieceFiles.Model());
        File.WriteAllText(Path.Combine(source, "special_tokens_map.json"), "{\"additional_special_tokens\": [\"<|im_start|>\"]}");
        File.WriteAllText(Path.Combine(source, file), content);
        ModelConverter.Convert(source, folder["m.gguf"], "f32");
        ModelConverter.Convert(folder["m.gguf"], folder["back"], "f32");
        int[] ids = Tokenizer(source).Encode("the<|im_start|>and");
        Assert.Contains(277, ids);
        // The embedding has more rows than there are tokens: what the file has in their places is no token of a text.
        foreach (Tokenizer actual in new[] { Tokenizer(folder["m.gguf"]), Tokenizer(folder["back"]) })
        {
            Assert.Equal(ids, actual.Encode("the<|im_start|>and"));
            Assert.Equal(("<|im_start|>", "<tool>"), (actual.TokenText(277), actual.TokenText(278)));
            Assert.Equal((true, false), (actual.IsSpecial(277), actual.IsSpecial(278)));
            Assert.DoesNotContain(300, actual.Encode("[PAD300]"));
        }

        static Tokenizer Tokenizer(string path)
        {
            using LoadedModel loaded = LoadedModel.Load(path);
            return loaded.Tokenizer;
        }
    }

    [Fact]
    public void AFileIsReplacedOnlyByOneWithACertificate()
    {
        using TempFolder folder = new();
        string source = Path.Combine(TestData.Assets, "nibble-llama-4m");
        ModelConverter.Convert(source, folder["m.gguf"], "q4_0");
        byte[] before = File.ReadAllBytes(folder["m.gguf"]);

        // Its largest numbers make logits that are none.
        Directory.CreateDirectory(folder["broken"]);
        Array.ForEach(Directory.GetFiles(source), file => File.Copy(file, folder[Path.Combine("broken", Path.GetFileName(file))]));
        long offset, count;
        using (SafetensorsFile weights = SafetensorsFile.Open(folder[Path.Combine("broken", "model.safetensors")]))
        {
            SafetensorsEntry norm = weights.Entry("model.norm.weight");
            (offset, count) = (norm.Offset, norm.ByteLength);
        }

        using (FileStream file = File.OpenWrite(folder[Path.Combine("broken", "model.safetensors")]))
        {
            file.Seek(offset, SeekOrigin.Begin);
            file.Write([.. Enumerable.Repeat((byte)0x7F, (int)count)]);
        }

        Assert.Throws<NibbleException>(() => ModelConverter.Convert(folder["broken"], folder["m.gguf"], "q4_0", force: true));
        Assert.Equal(before, File.ReadAllBytes(folder["m.gguf"]));
        Assert.Equal(source, Nibble.Certificates.Certifier.Verify(folder["m.gguf"], source).Source);
        Assert.Equal(["broken", "m.gguf", "m.gguf.certificate.json"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        ModelConverter.Convert(source, folder["m.gguf"], "q8_0", force: true);
        Nibble.Certificates.Certifier.Verify(folder["m.gguf"], source);
    }

    [Fact]
    public void RowsOfHeadsAreInterleaved()
    {
        nint[] stored = [.. Enumerable.Range(0, 8).Select(row => GgufNames.StoredRow(row, 8, 1))];
        int[] order = [.. Enumerable.Range(0, 8).Select(row => Array.IndexOf(stored, (nint)row))];
        Assert.Equal([0, 4, 1, 5, 2, 6, 3, 7], order);
        Assert.Equal(16, Enumerable.Range(0, 16).Select(row => GgufNames.StoredRow(row, 16, 2)).Distinct().Count());
    }

    [Fact]
    public void ConvertRefusesWhatItCannotDo()
    {
        using TempFolder folder = new();
        string source = Path.Combine(TestData.Assets, "nibble-llama-4m");
        Assert.Contains("cannot be written", Refusal(() => ModelConverter.Convert(source, folder["m.gguf"], "q7_0")), StringComparison.Ordinal);
        Assert.Contains("folders take f32", Refusal(() => ModelConverter.Convert(source, folder["m"], "q4_0")), StringComparison.Ordinal);
        ModelConverter.Convert(source, folder["m.gguf"], "f16");
        Assert.Contains("exists already", Refusal(() => ModelConverter.Convert(source, folder["m.gguf"], "f16")), StringComparison.Ordinal);
        Assert.Contains("is the input itself", Refusal(() => ModelConverter.Convert(folder["m.gguf"], folder["m.gguf"], "f16")), StringComparison.Ordinal);
        ModelConverter.Convert(source, folder["again.gguf"], "f16");
        Assert.Equal(File.ReadAllBytes(folder["m.gguf"])[400..], File.ReadAllBytes(folder["again.gguf"])[400..]);
        ModelCard card = ModelCard.Of(folder["m.gguf"]);
        Assert.Equal("gguf", card.Kind);
        Assert.Equal(4_458_752, card.Parameters);
    }

    [Fact]
    public void TheCardOfAnUnknownArchitectureIsShownAndLoadingIsRefused()
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["m.gguf"], GgufBytes.Header(0, 1).Value("general.architecture", "rwkv7").ToArray());
        Assert.Equal("rwkv7", ModelCard.Of(folder["m.gguf"]).ModelType);
        Assert.Contains("architecture 'rwkv7' is not supported", Refusal(() => LoadedModel.Load(folder["m.gguf"])), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("<0x-1>")]
    [InlineData("<0xG0>")]
    [InlineData("<0x1>")]
    [InlineData("byte")]
    public void ByteTokensHaveTwoDigits(string text)
    {
        GgufBytes bytes = GgufBytes.Header(0, 4).Value("tokenizer.ggml.model", "llama").Key("tokenizer.ggml.tokens", GgufKind.Array).U32(8).U64(1).Text(text)
            .Key("tokenizer.ggml.token_type", GgufKind.Array).U32(5).U64(1).U32(6).Key("tokenizer.ggml.scores", GgufKind.Array).U32(6).U64(1).U32(0);
        Assert.Contains("is of type byte", Refusal(() => Tokens(bytes)), StringComparison.Ordinal);
    }

    [Fact]
    public void TokensAreCheckedBeforeTheyAreUsed()
    {
        GgufBytes numbers = GgufBytes.Header(0, 2).Value("tokenizer.ggml.model", "gpt2").Key("tokenizer.ggml.tokens", GgufKind.Array).U32(4).U64(1).U32(7);
        Assert.Contains("expected texts", Refusal(() => Tokens(numbers)), StringComparison.Ordinal);
        GgufBytes types = GgufBytes.Header(0, 3).Value("tokenizer.ggml.model", "gpt2").Key("tokenizer.ggml.tokens", GgufKind.Array).U32(8).U64(1).Text("a")
            .Key("tokenizer.ggml.token_type", GgufKind.Array).U32(5).U64(2).U32(1).U32(1);
        Assert.Contains("1 tokens, but 2 types", Refusal(() => Tokens(types)), StringComparison.Ordinal);
        GgufBytes role = GgufBytes.Header(0, 3).Value("tokenizer.ggml.model", "gpt2").Key("tokenizer.ggml.tokens", GgufKind.Array).U32(8).U64(1).Text("a")
            .Key("tokenizer.ggml.bos_token_id", GgufKind.U32).U32(1);
        Assert.Contains("has no such token", Refusal(() => Tokens(role)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void ARoleIsOneNumber(int count)
    {
        GgufBytes role = GgufBytes.Header(0, 3).Value("tokenizer.ggml.model", "gpt2").Key("tokenizer.ggml.tokens", GgufKind.Array).U32(8).U64(1).Text("a")
            .Key("tokenizer.ggml.bos_token_id", GgufKind.Array).U32((uint)GgufKind.U32).U64((ulong)count).Zeros(4 * count);
        Assert.Contains("expected a whole number", Refusal(() => Tokens(role)), StringComparison.Ordinal);
    }

    /// <summary>As llama.cpp reads them (llama-hparams.cpp): without a type a factor is linear, and an older key holds it too.</summary>
    [Theory]
    [InlineData(null, "rope.scaling.factor", 4f, 4)]
    [InlineData(null, "rope.scale_linear", 4f, 4)]
    [InlineData("linear", "rope.scaling.factor", 4f, 4)]
    [InlineData("linear", "rope.scaling.factor", 0f, 1)]
    [InlineData("none", "rope.scaling.factor", 4f, 1)]
    [InlineData("linear", null, 0f, 1)]
    [InlineData(null, null, 0f, 1)]
    public void PositionsAreStretchedAsTheFormatSays(string? type, string? key, float factor, double expected)
    {
        using TempFolder folder = new();
        GgufBytes bytes = GgufBytes.Header(1, (ulong)(6 + (type is null ? 0 : 1) + (key is null ? 0 : 1))).Value("general.architecture", "llama");
        foreach ((string name, uint value) in new[] { ("embedding_length", 8u), ("attention.head_count", 2u), ("feed_forward_length", 8u), ("block_count", 1u), ("context_length", 16u) })
        {
            bytes.Key("llama." + name, GgufKind.U32).U32(value);
        }

        _ = type is null ? bytes : bytes.Value("llama.rope.scaling.type", type);
        _ = key is null ? bytes : bytes.Key("llama." + key, GgufKind.F32).U32(BitConverter.SingleToUInt32Bits(factor));
        File.WriteAllBytes(folder["m.gguf"], bytes.Tensor("token_embd.weight", GgufType.F32, 0, 8, 4).Pad(32).Zeros(128).ToArray());
        using GgufFile file = GgufFile.Open(folder["m.gguf"]);
        Assert.Equal(expected, Nibble.Nn.RopeSettings.Read(GgufConfig.Of(file).Text).Factor);
    }

    [Fact]
    public void SentencePieceModelsSurviveBeingWritten()
    {
        SentencePieceModel model = new() { ModelType = 2, ByteFallback = true, RemoveExtraWhitespaces = false };
        model.Pieces.AddRange([new("<unk>", 0, PieceType.Unknown), new("<s>", 0, PieceType.Control), new("</s>", 0, PieceType.Control), new("▁é", -1.5f, PieceType.Normal)]);
        SentencePieceModel read = SentencePieceModel.Parse(SentencePieceWriter.Bytes(model), "test", Limits.Default);
        Assert.Equal(model.Pieces, read.Pieces);
        Assert.Equal((2, true, true, false, 1, 2, -1), (read.ModelType, read.ByteFallback, read.AddDummyPrefix, read.RemoveExtraWhitespaces, read.BosId, read.EosId, read.PadId));
    }

    private static void Tokens(GgufBytes bytes)
    {
        using TempFolder folder = new();
        File.WriteAllBytes(folder["m.gguf"], bytes.ToArray());
        using GgufFile file = GgufFile.Open(folder["m.gguf"]);
        GgufTokens.Of(file.Metadata)!.Build("{\"bos_token_id\":0}"u8.ToArray(), Limits.Default);
        _ = GgufTokens.Role(file.Metadata, "bos");
    }

    private static string Refusal(Action action) => Assert.Throws<NibbleException>(action).Message;
}
