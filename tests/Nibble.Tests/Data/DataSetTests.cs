using Nibble.Data;
using Nibble.Data.Sources;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Xunit;

namespace Nibble.Tests.Data;

/// <summary>Which files are read: splits of folders, data cards, sets with names.</summary>
public sealed class DataSetTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void FilesOfTheHubsFormAreSortedIntoSplits()
    {
        Make("README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002-abc.parquet", "data/validation-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "extra.jsonl");
        Assert.Equal(["data/train-00000-of-00002.parquet", "data/train-00001-of-00002-abc.parquet"], Files(null, "train"));
        Assert.Equal(["data/validation-00000-of-00001.parquet"], Files("valid", "train"));
        NibbleException error = Assert.Throws<NibbleException>(() => Files("other", "train"));
        Assert.Contains("test, train, validation", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheDataCardWins()
    {
        Make("a/one.jsonl", "b/two.jsonl", "b/three.csv");
        File.WriteAllText(_folder["README.md"], "---\nlicense: mit\nconfigs:\n- config_name: other\n  data_files: b/*.csv\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    path: a/*\n  - split: test\n    path:\n    - b/two.jsonl\n---\n# Words\n");
        Assert.Equal(["a/one.jsonl"], Files(null, "train"));
        Assert.Equal(["b/two.jsonl"], Files("test", "train"));
    }

    [Fact]
    public void WordsInNamesTellTheSplit()
    {
        Make("train.jsonl", "valid.jsonl", "test.jsonl", "dataset_infos.json");
        Assert.Equal(["train.jsonl"], Files(null, "train"));
        Assert.Equal(["valid.jsonl"], Files(null, "validation", "test"));
        Make("deep/dev/x.jsonl", "training_2.csv", "latest.csv");
        Assert.Equal(["latest.csv", "train.jsonl", "training_2.csv"], Files(null, "train"));
        Assert.Equal(["deep/dev/x.jsonl", "valid.jsonl"], Files("dev", "train"));
    }

    [Fact]
    public void TextsAreSortedOnlyIfAllNamesTell()
    {
        Make("a.txt", "test.txt");
        Assert.Equal(["a.txt", "test.txt"], Files(null, "train"));
        File.Delete(_folder["a.txt"]);
        Make("wiki.train.raw", "wiki.valid.raw");
        Assert.Equal(["wiki.train.raw"], Files(null, "train"));
    }

    [Fact]
    public void AFolderOfParquetIsTextToMeasureOn()
    {
        Directory.CreateDirectory(_folder["data"]);
        string golden = Path.Combine(TestData.Goldens, "parquet", "dictionary-snappy.parquet");
        File.Copy(golden, _folder["data/train-00000-of-00001.parquet"]);
        File.Copy(golden, _folder["data/test-00000-of-00001.parquet"]);
        EvaluationText text = TextSource.Load(_folder.Path);
        Assert.Equal((40, TextJoin.Hf), (text.Documents.Count, text.Join));
        Assert.Equal("prefix shared 1", text.Documents[1]);
    }

    [SkippableFact]
    public void FilesMayBeLinksAsInTheHubsCache()
    {
        Skip.If(OperatingSystem.IsWindows(), "links need a privilege there");
        Directory.CreateDirectory(_folder["blobs"]);
        Directory.CreateDirectory(_folder["set/data"]);
        File.Copy(Path.Combine(TestData.Goldens, "parquet", "dictionary-snappy.parquet"), _folder["blobs/0a1b"]);
        File.CreateSymbolicLink(_folder["set/data/test-00000-of-00001.parquet"], "../../blobs/0a1b");
        Assert.Equal(40, TextSource.Load(_folder["set"]).Documents.Count);
        Assert.Equal(new FileInfo(_folder["blobs/0a1b"]).Length, FileSize.Of(_folder["set/data/test-00000-of-00001.parquet"]));
    }

    [SkippableFact]
    public void NamedSetsHaveTheirOfficialSplits()
    {
        Skip.If(TestData.Shared("data") is null, "../shared/data is not there");
        foreach ((string name, int rows) in new[] { ("tweeteval/sentiment/validation", 2000), ("tweeteval/sentiment", 12284), ("codesearchnet/python/valid", 1000) })
        {
            EvaluationText text = InShared(() => TextSource.Load(name));
            Assert.Equal(rows, text.Documents.Count);
            Assert.Equal("examples", InShared(() => TextSource.ProtocolOf(name)));
        }

        Assert.Equal("173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08", InShared(() => TextSource.Load("wikitext2")).Fingerprint);
        DataSet train = InShared(() => DataSet.Open("wikitext2", null, Limits.Default, "train"));
        Assert.Contains("only the beginning", train.Named!.Note, StringComparison.Ordinal);
        Assert.Equal("window", TextSource.ProtocolOf("wikitext2"));
    }

    [Fact]
    public void UnknownPartsAndMissingSetsSayWhatThereIs()
    {
        Assert.Contains("known are demo, wikitext2", Assert.Throws<NibbleException>(() => DataSet.Open("wikitext2/sentiment/x", null, Limits.Default, "train")).Message, StringComparison.Ordinal);
        NibbleException error = Assert.Throws<NibbleException>(() => DataSet.Open("codesearchnet/cobol", null, Limits.Default, "train"));
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains("NIBBLE_DATA", error.Message, StringComparison.Ordinal);
        Assert.Contains("no names", Assert.Throws<NibbleException>(() => DataSet.Open("no-such-thing", null, Limits.Default, "train")).Message.Replace("nor one of the names", "no names", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    // Names are looked for from the working folder upward, or where the variable says; tests of one assembly share both.
    private static T InShared<T>(Func<T> work)
    {
        string? before = Environment.GetEnvironmentVariable(TextSource.EnvironmentVariable);
        Environment.SetEnvironmentVariable(TextSource.EnvironmentVariable, TestData.Shared("data"));
        try
        {
            return work();
        }
        finally
        {
            Environment.SetEnvironmentVariable(TextSource.EnvironmentVariable, before);
        }
    }

    private void Make(params string[] files)
    {
        foreach (string file in files)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(_folder[file])!);
            File.WriteAllText(_folder[file], "x");
        }
    }

    private string[] Files(string? split, params string[] preferred) =>
        [.. SplitFiles.Of(new LocalFolder(_folder.Path)).Files(split, preferred).Select(file => Path.GetRelativePath(_folder.Path, file.Name))];
}
