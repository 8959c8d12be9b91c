using Nibble.Data;
using Nibble.Evaluation.Classification;
using Nibble.IO;
using Xunit;

namespace Nibble.Tests.Data;

/// <summary>Texts with classes, from files of every form.</summary>
public sealed class LabeledRowsTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("rows.csv", "text,label\none,good\n\"two, too\",bad\n")]
    [InlineData("rows.tsv", "label\ttext\ngood\tone\nbad\ttwo, too\n")]
    [InlineData("rows.jsonl", "{\"text\":\"one\",\"label\":\"good\"}\n\n{\"label\":\"bad\",\"text\":\"two, too\"}\n")]
    [InlineData("rows.json", "[{\"text\":\"one\",\"label\":\"good\"},{\"label\":\"bad\",\"text\":\"two, too\"}]")]
    public void EveryFormGivesTheSameRows(string name, string content)
    {
        File.WriteAllText(_folder[name], content);
        LabeledSet set = LabeledRows.Read(_folder[name], "train", null, new DataOptions(), out int skipped);
        Assert.Equal(0, skipped);
        Assert.Equal(["bad", "good"], set.Labels);
        Assert.Equal([new LabeledText("one", 1), new LabeledText("two, too", 0)], set.Rows);
    }

    /// <summary>As the Hub stores sets with classes: folders of Parquet, the class a number of 64 or 32 bits.</summary>
    [Theory]
    [InlineData("labels.parquet")]
    [InlineData("labels32.parquet")]
    public void ParquetHasLabels(string golden)
    {
        Directory.CreateDirectory(_folder["data"]);
        File.Copy(Path.Combine(TestData.Goldens, "parquet", golden), _folder["data/train-00000-of-00001.parquet"]);
        LabeledSet set = LabeledRows.Read(_folder.Path, "train", ["negative", "neutral", "positive"], new DataOptions(), out int skipped);
        Assert.Equal(0, skipped);
        LabeledText[] expected = [new("good day", 2), new("so bad, really", 0), new("it is", 1), new("bad", 0), new("good", 2), new("nothing new", 1)];
        Assert.Equal(expected, set.Rows);
        Assert.Equal(["LABEL_0", "LABEL_1", "LABEL_2"], LabeledRows.Read(_folder.Path, "train", null, new DataOptions(), out _).Labels);

        NibbleException error = Assert.Throws<NibbleException>(() => LabeledRows.Read(_folder.Path, "train", ["bad", "good"], new DataOptions(), out _));
        Assert.Contains("2 rows can't be used", error.Message, StringComparison.Ordinal);
        Assert.Contains("label '2' is none of bad, good", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderHasSplitsAndNumbersStandForThemselves()
    {
        File.WriteAllText(_folder["train.csv"], "text,label\na,0\nb,2\n");
        File.WriteAllText(_folder["validation.csv"], "text,label\nc,1\n");
        LabeledSet train = LabeledRows.Read(_folder.Path, "train", null, new DataOptions(), out _);
        Assert.Equal(["LABEL_0", "LABEL_1", "LABEL_2"], train.Labels);
        Assert.Equal([new LabeledText("c", 1)], LabeledRows.Read(_folder.Path, "val", train.Labels, new DataOptions(), out _).Rows);
    }

    [Fact]
    public void BadRowsAreListedTogetherOrLeftOut()
    {
        File.WriteAllText(_folder["rows.csv"], "text,label\na,yes\nb,maybe\nc\nd,\n");
        NibbleException error = Assert.Throws<NibbleException>(() => LabeledRows.Read(_folder["rows.csv"], "train", ["no", "yes"], new DataOptions(), out _));
        Assert.Contains("3 rows can't be used", error.Message, StringComparison.Ordinal);
        foreach (string part in new[] { "rows.csv line 3: label 'maybe' is none of no, yes", "line 4: 1 fields", "line 5: no label" })
        {
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
        }

        List<string> notes = [];
        LabeledSet set = LabeledRows.Read(_folder["rows.csv"], "train", ["no", "yes"], new DataOptions { SkipBad = true, Note = notes.Add }, out int skipped);
        Assert.Equal((1, 3), (set.Rows.Count, skipped));
        Assert.Contains("3 rows left out", Assert.Single(notes), StringComparison.Ordinal);
    }

    [Fact]
    public void LabelsThatLookLikeNumbersAreNames()
    {
        File.WriteAllText(_folder["rows.csv"], "text,label\na,+1\nb,-1\nc,+1\n");
        LabeledSet set = LabeledRows.Read(_folder["rows.csv"], "train", null, new DataOptions(), out _);
        Assert.Equal(["+1", "-1"], set.Labels);
        File.WriteAllText(_folder["plus.csv"], "text,label\na,+1\nb,0\n");
        set = LabeledRows.Read(_folder["plus.csv"], "train", null, new DataOptions(), out _);
        Assert.Equal(["+1", "0"], set.Labels);
        Assert.Equal([0, 1], set.Rows.Select(row => row.Label));
    }

    [Fact]
    public void LabelsThatAreNamedTwiceAreRefused()
    {
        File.WriteAllText(_folder["rows.csv"], "text,label\na,yes\n");
        NibbleException error = Assert.Throws<NibbleException>(() => LabeledRows.Read(_folder["rows.csv"], "train", ["yes", "no", "yes"], new DataOptions(), out _));
        Assert.Contains("'yes' is named twice", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TextWithoutLabelsIsRefused()
    {
        File.WriteAllText(_folder["rows.txt"], "words\n");
        Assert.Contains("has no labels", Assert.Throws<NibbleException>(() => LabeledRows.Read(_folder["rows.txt"], "train", null, new DataOptions(), out _)).Message, StringComparison.Ordinal);
    }
}
