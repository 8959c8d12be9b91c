using System.IO.Compression;
using System.Text;
using Nibble.Data;
using Nibble.Data.Rows;
using Nibble.Evaluation;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Tests.Evaluation;

public sealed class EvaluationTextTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-text-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    private static string Whole(EvaluationText text, TextJoin? join = null) => Assert.Single(text.Pieces(TextUnit.Whole, join ?? text.Join));

    [Fact]
    public void A_file_stays_as_it_is()
    {
        EvaluationText text = TextSource.Load(Write("a.txt", "one\r\n\n two \n"));
        Assert.Equal(TextJoin.Raw, text.Join);
        Assert.Equal("one\r\n\n two \n", Whole(text));
        Assert.Equal(["one", " two "], text.Pieces(TextUnit.Line, TextJoin.Raw));
    }

    [Fact]
    public void Joining_as_Hugging_Face_does()
    {
        // Rows are " = T = \n", "", "a\n": two newlines between them.
        EvaluationText text = TextSource.Load(Write("a.txt", " = T = \n \na\n"));
        Assert.Equal(" = T = \n\n\n\n\na\n", Whole(text, TextJoin.Hf));
    }

    [Fact]
    public void Gzip_and_json_lines()
    {
        string path = Path.Combine(_folder, "rows.jsonl.gz");
        using (GZipStream gzip = new(File.Create(path), CompressionLevel.Fastest))
        {
            gzip.Write("{\"text\":\"one\"}\n\n{\"id\":2,\"code\":\"two\"}\n"u8);
        }

        EvaluationText text = TextSource.Load(path);
        Assert.Equal(["one", "two"], text.Pieces(TextUnit.Document, text.Join));
        Assert.Equal("one\n\ntwo", Whole(text));
    }

    [Fact]
    public void Json_lines_are_read_alike_under_every_name()
    {
        const string rows = "{\"prompt\": \"1 + 1 = \", \"completion\": \"2\"}\r\n\r\n{\"text\": \"b\"}";
        string[] expected = ["1 + 1 = 2", "b"];
        Assert.All(new[] { "rows.jsonl", "rows.ndjson", "rows.json" }, name => Assert.Equal(expected, TextSource.Load(Write(name, rows)).Documents));
        File.Delete(Path.Combine(_folder, "rows.ndjson"));
        File.Delete(Path.Combine(_folder, "rows.json"));
        Write("a.txt", "A");
        Assert.Equal(["A", .. expected], TextSource.Load(_folder).Documents);
    }

    [Fact]
    public void A_row_with_several_texts_gives_the_one_that_it_is_trained_on()
    {
        string[] fields = ["original_string", "whole_func_string", "func_code_string", "code", "content", "text"];
        for (int count = 1; count <= fields.Length; count++)
        {
            Dictionary<string, object?> row = fields.Take(count).ToDictionary(field => field, field => (object?)("of " + field));
            string trained = Assert.IsType<TextExample>(RowShape.Of(row, RowFormat.Auto).Example).Text;
            Assert.Equal(trained, Whole(TextSource.Load(Write("rows.jsonl", System.Text.Json.JsonSerializer.Serialize(row) + "\n"))).TrimEnd('\n'));
        }
    }

    [Fact]
    public void A_folder_gives_its_text_files_in_order()
    {
        Write("b.txt", "B");
        Write("a.py", "A");
        Write("c.bin", "\0");
        Assert.Equal(["A", "B"], TextSource.Load(_folder).Documents);
    }

    [Fact]
    public void The_fingerprint_of_a_file_is_its_sha256()
    {
        string path = Write("a.txt", "abc");
        Assert.Equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", TextSource.Load(path).Fingerprint);
    }

    [Fact]
    public void What_is_no_text_is_refused()
    {
        string binary = Path.Combine(_folder, "x.txt");
        File.WriteAllBytes(binary, [0x41, 0xFF, 0xFE]);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => TextSource.Load(binary)).Kind);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => TextSource.Load(Write("blank.txt", " \n\n"))).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => TextSource.Load(Path.Combine(_folder, "missing.txt"))).Kind);
        Assert.Contains("line 2", Assert.Throws<NibbleException>(() => TextSource.Load(Write("bad.jsonl", "{\"text\":\"a\"}\n{\"n\":1}\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("line 1", Assert.Throws<NibbleException>(() => TextSource.Load(Write("half.jsonl", "{\"text\":\"\\ud800\"}\n"))).Message, StringComparison.Ordinal);
        File.WriteAllBytes(Path.Combine(_folder, "bad.txt.gz"), Encoding.ASCII.GetBytes("not gzip at all"));
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => TextSource.Load(Path.Combine(_folder, "bad.txt.gz"))).Kind);
    }

    [SkippableFact]
    public void WikiText2_has_the_number_of_tokens_that_papers_have()
    {
        string? wiki = TestData.Shared("data/wikitext2/wiki.test.raw.gz"), gpt2 = TestData.Shared("data/tokenizers/gpt2"), llama = TestData.Shared("data/tokenizers/llama2/tokenizer.model");
        Skip.If(wiki is null || gpt2 is null || llama is null, "needs ../shared/data/wikitext2 and ../shared/data/tokenizers");
        EvaluationText text = TextSource.Load(wiki);
        Protocol protocol = new WindowProtocol(1024, 512);
        // 287,644: "Token indices sequence length is longer … (287644 > 1024)" in transformers' own warning; 341,469: GPTQ's and AWQ's scripts.
        Assert.Equal(287_644, TokenizedText.Create(text, protocol, text.Join, TokenizerLoader.FromFolder(gpt2)).Tokens);
        Assert.Equal(341_469, TokenizedText.Create(text, protocol, text.Join, TokenizerLoader.FromFile(llama)).Tokens);
    }

    [Fact]
    public void A_limit_cuts_tokens_and_bytes_follow_the_text()
    {
        Tokenizer tokenizer = TokenizerLoader.FromFolder(AssetFolder.Find("assets/nibble-gpt2-10m"));
        EvaluationText text = TextSource.Load("demo");
        TokenizedText all = TokenizedText.Create(text, new WindowProtocol(512, 256), TextJoin.Raw, tokenizer);
        TokenizedText some = TokenizedText.Create(text, new WindowProtocol(512, 256), TextJoin.Raw, tokenizer, 1000);
        Assert.Equal(135_904, all.Tokens);
        Assert.Equal(1000, some.Tokens);
        Assert.Equal(all.Sequences[0].Ids.Take(1000), some.Sequences[0].Ids);
        Assert.Equal(Encoding.UTF8.GetByteCount(text.Documents[0]), all.Sequences[0].Bytes.Sum());
    }

    [Fact]
    public void NothingToMeasureIsRefused()
    {
        string model = Path.Combine(TestData.Assets, "nibble-llama-4m");
        foreach (EvaluationOptions options in new[] { new EvaluationOptions { Tasks = [] }, new EvaluationOptions { Limit = 0 }, new EvaluationOptions { Limit = -1 }, new EvaluationOptions { Tasks = ["classification"], Data = "demo" } })
        {
            Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Evaluator.Run(model, options)).Kind);
        }
    }
}
