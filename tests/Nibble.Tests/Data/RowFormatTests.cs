using System.IO.Compression;
using System.Text;
using Nibble.Data;
using Nibble.IO;
using Nibble.Templates;
using Nibble.Tokenization;
using Xunit;

namespace Nibble.Tests.Data;

/// <summary>Forms of files and of rows, what is trained on in each, and what is said about rows that can't be used.</summary>
public sealed class RowFormatTests : IDisposable
{
    private static readonly Tokenizer Tokens = TokenizerLoader.FromFolder(Path.Combine(TestData.Assets, "nibble-llama-4m"));
    private static readonly ChatTemplate Chat = ChatTemplate.FromText("{% for m in messages %}[{{ m.role }}]\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}");
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a.jsonl", """{"prompt": "Q: ", "completion": "yes"}""", "yes")]
    [InlineData("a.ndjson", """{"prompt": "Q: ", "response": "yes", "text": "ignored"}""", "yes")]
    [InlineData("a.json", """[{"prompt": "Q: ", "completion": "yes"}]""", "yes")]
    [InlineData("a.json", "{\"prompt\": \"Q: \", \"completion\": \"yes\"}\n{\"prompt\": \"R: \", \"completion\": \" no\"}\n", "yes| no")]
    [InlineData("a.json", "{\"version\": 1,\n \"data\": [{\"prompt\": \"Q: \",\n \"completion\": \"yes\"}]}", "yes")]
    [InlineData("a.csv", "prompt,completion\nQ: ,yes\n\"R, \"\"x\"\"\",\"two\nlines\"\n", "yes|two\nlines")]
    [InlineData("a.tsv", "prompt\tcompletion\nQ: \tyes\n", "yes")]
    [InlineData("a.jsonl", """{"instruction": "Say yes", "input": "", "output": "yes"}""", "yes")]
    [InlineData("a.jsonl", """{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "more"}, {"role": "assistant", "content": "no"}]}""", "yes\n,no\n")]
    [InlineData("a.jsonl", """{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}""", "yes\n")]
    [InlineData("a.jsonl", """{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], "tools": "[\"\\ud800\"]"}""", "yes\n")]
    [InlineData("a.jsonl", """{"messages": {"role": ["user", "assistant"], "content": ["hi", "yes"]}}""", "yes\n")]
    [InlineData("a.jsonl", """{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "yes"}]}""", "yes\n")]
    [InlineData("a.jsonl", """{"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "yes"}]}""", "yes\n")]
    [InlineData("a.jsonl", """{"instruction": "b", "output": "yes", "system": "s", "history": [["a", "no"]]}""", "yes\n")]
    public void OnlyAnswersAreTrainedOn(string name, string content, string expected)
    {
        foreach (bool packed in new[] { false, true })
        {
            TrainingSet set = Read(Write(packed ? name + ".gz" : name, content));
            Assert.Equal(expected, string.Join('|', set.Rows.Select(Scored)));
        }
    }

    [Fact]
    public void TextsAreTrainedOnWholeAndJoined()
    {
        TrainingSet set = Read(Write("a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n"));
        Assert.Equal((2, 1), (set.Documents, set.Rows.Count));
        Assert.Contains("two", Tokens.Decode(set.Rows[0].Ids), StringComparison.Ordinal);
        Assert.Equal(Read(Write("b.csv", "id,text\n1,one\n2,two\n")).Fingerprint, set.Fingerprint);
        Assert.Equal(Read(Write("c.json", "[{\"text\": \"one\"}, {\"text\": \"two\"}]")).Fingerprint, set.Fingerprint);
    }

    [Fact]
    public void AFormatCanBeForced()
    {
        string file = Write("a.jsonl", """{"text": "all of it", "prompt": "p", "completion": "c"}""");
        Assert.Equal("c", Scored(Read(file).Rows[0]));
        Assert.Contains("of it", Scored(Read(file, new DataOptions { Format = RowFormat.Text }).Rows[0]), StringComparison.Ordinal);
        NibbleException error = Assert.Throws<NibbleException>(() => Read(file, new DataOptions { Format = RowFormat.Messages }));
        Assert.Contains("no messages; its fields are text, prompt, completion", error.Message, StringComparison.Ordinal);
        Assert.Contains("--format messages", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BadRowsAreNamedByFileAndLineOrCounted()
    {
        string file = Write("bad.jsonl", "{\"text\": \"good words\"}\nnot json\n{\"other\": 1}\n[1]\n{\"chosen\": \"a\", \"rejected\": \"b\"}\n{\"messages\": []}\n{\"messages\": [{\"role\": \"user\"}]}\n");
        NibbleException error = Assert.Throws<NibbleException>(() => Read(file));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        foreach (string part in new[] { "6 rows can't be used", "bad.jsonl line 2: not JSON", "line 3: no text", "line 4: a JSON Array", "line 5: a preference row", "line 6: its conversation is empty", "and 1 more" })
        {
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
        }

        List<string> notes = [];
        Assert.Equal((6, 1), (Read(file, new DataOptions { SkipBad = true, Note = notes.Add }).Skipped, Read(file, new DataOptions { SkipBad = true }).Documents));
        Assert.Contains("6 rows left out", notes[0], StringComparison.Ordinal);
    }

    [Fact]
    public void BadRowsOfTablesAndArraysAreNamed()
    {
        Assert.Contains("t.csv line 3: 3 fields, the first line names 2", Assert.Throws<NibbleException>(() => Read(Write("t.csv", "prompt,completion\na,b\na,b,c\n\nd,e\n"))).Message, StringComparison.Ordinal);
        Assert.Equal((1, 2), (Read(Write("t.csv", "prompt,completion\na,b\na,b,c\n\nd,e\n"), new DataOptions { SkipBad = true }).Skipped, Read(Write("t.csv", "prompt,completion\na,b\na,b,c\n\nd,e\n"), new DataOptions { SkipBad = true }).Rows.Count));
        Assert.Contains("not JSON, and nothing after it", Assert.Throws<NibbleException>(() => Read(Write("t.json", "[{\"text\": \"a b\"}, {\"text\": ]"))).Message, StringComparison.Ordinal);
        byte[] latin = [.. "{\"text\": \"a\"}\n{\"text\": \""u8, 0xE9, .. "\"}\n"u8];
        File.WriteAllBytes(_folder["l.jsonl"], latin);
        Assert.Contains("l.jsonl line 2: no valid UTF-8", Assert.Throws<NibbleException>(() => Read(_folder["l.jsonl"])).Message, StringComparison.Ordinal);
        File.WriteAllBytes(_folder["z.jsonl.gz"], [1, 2, 3, 4]);
        Assert.Contains("damaged", Assert.Throws<NibbleException>(() => Read(_folder["z.jsonl.gz"])).Message, StringComparison.Ordinal);
        Assert.Contains(".arrow", Assert.Throws<NibbleException>(() => Read(Write("x.arrow", "x"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LongRowsAreCutAndCounted()
    {
        string longer = string.Join(' ', Enumerable.Repeat("word", 200));
        TrainingSet set = Read(Write("a.jsonl", $"{{\"prompt\": \"p\", \"completion\": \"{longer}\"}}\n{{\"prompt\": \"p\", \"completion\": \"short\"}}\n"), rowLength: 16);
        Assert.Equal((1, 2), (set.Truncated, set.Rows.Count));
        Assert.True(set.Rows.All(row => row.Ids.Length <= 16));
        Assert.Contains("the prompt alone fills a row of 16 tokens", Assert.Throws<NibbleException>(() => Read(Write("b.jsonl", $"{{\"prompt\": \"{longer}\", \"completion\": \"x\"}}"), rowLength: 16)).Message, StringComparison.Ordinal);
        // A line beyond the limit is one bad row, not the end of the file.
        TrainingSet rest = Read(Write("c.jsonl", $"{{\"text\": \"{longer}\"}}\n{{\"text\": \"a b c\"}}\n"), new DataOptions { SkipBad = true, Limits = Limits.Default with { RowBytes = 100 } });
        Assert.Equal((1, 1), (rest.Skipped, rest.Documents));
    }

    [Fact]
    public void ConversationsNeedATemplate()
    {
        string file = Write("a.jsonl", """{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}""");
        NibbleException error = Assert.Throws<NibbleException>(() => TrainingSetReader.Read(file, Tokens, 64, new DataOptions()));
        Assert.Contains("--chat-template", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RowsBeyondMemoryAreReadBackFromDisk()
    {
        using SpooledRows rows = new(most: 50);
        TrainingRow[] given = [.. Enumerable.Range(1, 40).Select(n => new TrainingRow([.. Enumerable.Range(n, n % 7 + 1)], [.. Enumerable.Repeat(n % 3 == 0 ? -1 : n, n % 7 + 1)]))];
        string[] before = Directory.GetFiles(Path.GetTempPath(), "nibble-rows-*");
        given.ToList().ForEach(rows.Add);
        if (!OperatingSystem.IsWindows())
        {
            // Killed now, the process would leave nothing. (Other tests that do the same leave nothing either.)
            Assert.Empty(Directory.GetFiles(Path.GetTempPath(), "nibble-rows-*").Except(before));
        }

        Assert.Equal((40, given.Sum(row => (long)row.ScoredTokens)), (rows.Count, rows.ScoredTokens));
        foreach (int i in new[] { 39, 0, 17, 38, 5, 17 })
        {
            Assert.Equal(given[i].Ids, rows[i].Ids);
            Assert.Equal(given[i].Targets, rows[i].Targets);
        }
    }

    private static string Scored(TrainingRow row)
    {
        List<int> ids = [];
        List<string> parts = [];
        for (int i = 0; i <= row.Targets.Length; i++)
        {
            if (i < row.Targets.Length && row.Targets[i] >= 0)
            {
                ids.Add(row.Targets[i]);
            }
            else if (ids.Count > 0)
            {
                parts.Add(Tokens.Decode([.. ids], skipSpecialTokens: true));
                ids.Clear();
            }
        }

        return string.Join(',', parts);
    }

    private static TrainingSet Read(string path, DataOptions? options = null, int rowLength = 256) =>
        TrainingSetReader.Read(path, Tokens, rowLength, (options ?? new DataOptions()) with { ChatTemplate = Chat });

    private string Write(string name, string content)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(content);
        if (name.EndsWith(".gz", StringComparison.Ordinal))
        {
            using GZipStream packed = new(File.Create(_folder[name]), CompressionLevel.Fastest);
            packed.Write(bytes);
        }
        else
        {
            File.WriteAllBytes(_folder[name], bytes);
        }

        return _folder[name];
    }
}
