using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Quantization.Calibration;
using Nibble.Templates;

namespace Nibble.Tests.Quantization;

/// <summary>A calibration takes all data that is trained on, and never the test split of data that has another.</summary>
public sealed class CalibrationTextTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a.jsonl", """{"text":"one"}""", "one")]
    [InlineData("a.jsonl", """{"prompt":"a ","completion":"b"}""", "a b")]
    [InlineData("a.ndjson", """{"content":"one"}""", "one")]
    [InlineData("a.json", """[{"prompt":"a ","completion":"b"}]""", "a b")]
    [InlineData("a.csv", "prompt,completion\n\"a,\",b\n", "a,b")]
    [InlineData("a.tsv", "id\ttext\n1\tone\n", "one")]
    [InlineData("a.txt", "one\ntwo\n", "one\ntwo\n")]
    [InlineData("a.py", "x = 1\n", "x = 1\n")]
    public void Files_of_every_form_are_texts(string name, string content, string expected)
    {
        File.WriteAllText(_folder[name], content);
        Assert.Equal([expected], Load(_folder[name]));
    }

    [Fact]
    public void Instructions_and_parquet_are_texts_too()
    {
        File.WriteAllText(_folder["a.jsonl"], """{"instruction":"Add.","input":"1 2","output":"3"}""");
        string alpaca = Assert.Single(Load(_folder["a.jsonl"]));
        Assert.StartsWith("Below is an instruction", alpaca, StringComparison.Ordinal);
        Assert.EndsWith("3", alpaca, StringComparison.Ordinal);
        Assert.NotEmpty(Load(Path.Combine(TestData.Goldens, "parquet", "labels.parquet")));
    }

    [Fact]
    public void Conversations_take_the_models_template_and_are_refused_without_one()
    {
        File.WriteAllText(_folder["a.jsonl"], """{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]}""");
        string model = _folder["model"];
        Directory.CreateDirectory(model);
        File.WriteAllText(Path.Combine(model, "chat_template.jinja"), "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
        Assert.Equal(["[user]hi[assistant]ho"], CalibrationText.Load(_folder["a.jsonl"], () => ChatTemplate.Find(model), null).Documents);
        NibbleException error = Assert.Throws<NibbleException>(() => Load(_folder["a.jsonl"]));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("no chat template", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("train.jsonl", "test.jsonl")]
    [InlineData("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl")]
    public void Of_rows_with_splits_the_training_split_is_taken(string train, string test)
    {
        Directory.CreateDirectory(_folder["set/data"]);
        File.WriteAllText(_folder["set/" + train], """{"text":"seen"}""");
        File.WriteAllText(_folder["set/" + test], """{"text":"unseen"}""");
        Assert.Equal(["seen"], Load(_folder["set"]));
        // What is measured on is the other one.
        Assert.Equal(["unseen"], TextSource.Load(_folder["set"]).Documents);
    }

    [Fact]
    public void Of_texts_with_splits_the_training_split_is_taken_and_without_them_all()
    {
        Directory.CreateDirectory(_folder["set"]);
        foreach (string split in new[] { "train", "valid", "test" })
        {
            File.WriteAllText(_folder[$"set/wiki.{split}.raw"], split);
        }

        Assert.Equal(["train"], Load(_folder["set"]));
        File.Delete(_folder["set/wiki.train.raw"]);
        Assert.Equal(["valid"], Load(_folder["set"]));
        Directory.CreateDirectory(_folder["code"]);
        File.WriteAllText(_folder["code/a.cs"], "int a;");
        File.WriteAllText(_folder["code/test.cs"], "int b;");
        Assert.Equal(["int a;", "int b;"], Load(_folder["code"]));
    }

    [Fact]
    public void Sets_with_a_name_give_their_training_split()
    {
        Directory.CreateDirectory(_folder["wikitext2"]);
        foreach (string split in new[] { "train", "test" })
        {
            File.WriteAllText(_folder[$"wikitext2/wiki.{split}.raw"], split);
        }

        string? before = Environment.GetEnvironmentVariable(TextSource.EnvironmentVariable);
        Environment.SetEnvironmentVariable(TextSource.EnvironmentVariable, _folder.Path);
        try
        {
            Assert.Equal(["train"], Load("wikitext2"));
            Assert.Equal(["test"], Load("wikitext2/test"));
        }
        finally
        {
            Environment.SetEnvironmentVariable(TextSource.EnvironmentVariable, before);
        }
    }

    [Theory]
    [InlineData("demo", "demo")]
    [InlineData("tweeteval/emotion", "tweeteval/emotion")]
    [InlineData("/home/someone/texts/a.txt", "a.txt")]
    [InlineData("/home/someone/texts/", "texts")]
    [InlineData("https://host/a.jsonl?signature=secret", "https://host/a.jsonl")]
    public void Records_name_the_data_without_what_is_private(string data, string name) => Assert.Equal(name, CalibrationText.NameOf(data));

    private static IReadOnlyList<string> Load(string data) => CalibrationText.Load(data, () => null, null).Documents;
}
