using Nibble.Data;
using Nibble.Data.Streaming;
using Nibble.IO;
using Nibble.Tensors;
using Nibble.Tokenization;
using Nibble.Tuning;
using Xunit;

namespace Nibble.Tests.Data;

/// <summary>Data that is read while a training runs: every row once an epoch, an order by seed, any position restorable.</summary>
public sealed class StreamingTests : IDisposable
{
    private static readonly Tokenizer Tokens = TokenizerLoader.FromFolder(Path.Combine(TestData.Assets, "nibble-llama-4m"));
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void UnitsOfLinesHaveEveryRowOnceWhereverTheyAreCut()
    {
        string[] lines = [.. Enumerable.Range(0, 300).Select(i => i % 7 == 3 ? string.Empty : $$"""{"prompt":"{{i}}","completion":"{{new string('x', i % 11)}}é"}""")];
        File.WriteAllText(_folder["rows.jsonl"], string.Join('\n', lines));
        DataSet set = Open("rows.jsonl");
        long length = set.Files[0].Source.Length;
        foreach (long bytes in new long[] { 1, 17, 40, 1000, length })
        {
            List<object?> found = [];
            for (long from = 0; from < length; from += bytes)
            {
                found.AddRange(new LinesUnit(set.Files[0], from, Math.Min(from + bytes, length), Limits.Default).Rows().Select(row => row.Fields!["prompt"]));
            }

            Assert.Equal(Enumerable.Range(0, 300).Where(i => i % 7 != 3).Select(i => (object?)$"{i}"), found);
        }
    }

    [Fact]
    public void UnitsOfTextAreTheTextWhereverTheyAreCut()
    {
        string text = string.Concat(Enumerable.Range(0, 200).Select(i => $"line {i} ä€😀{(i % 5 == 0 ? "\r\n" : "\n")}")) + string.Concat(Enumerable.Repeat("ä€😀", 12_000));
        File.WriteAllText(_folder["text.txt"], text);
        DataSet set = Open("text.txt");
        long length = set.Files[0].Source.Length;
        foreach (long bytes in new long[] { 100, 1001, 50_000, length })
        {
            List<string> found = [];
            for (long from = 0; from < length; from += bytes)
            {
                found.AddRange(new TextUnit(set.Files[0], from, Math.Min(from + bytes, length)).Rows().Select(row => row.Problem ?? (string)row.Fields!["text"]!));
            }

            Assert.Equal(text, string.Concat(found));
        }
    }

    [Theory]
    [InlineData("rows.jsonl")]
    [InlineData("rows.jsonl.gz")]
    [InlineData("rows.csv")]
    public void AnEpochHasEveryRowOnceInAnOrderOfItsOwn(string name)
    {
        WriteRows(name, 500);
        int[][] epochs = [.. Epochs(name, seed: 7, rows: 1000).Chunk(500)];
        Assert.All(epochs, epoch => Assert.Equal(Enumerable.Range(0, 500), epoch.Order()));
        Assert.NotEqual(Enumerable.Range(0, 500), epochs[0]);
        Assert.NotEqual(epochs[0], epochs[1]);
        Assert.Equal(epochs[0], Epochs(name, seed: 7, rows: 500));
        Assert.NotEqual(epochs[0], Epochs(name, seed: 8, rows: 500));
    }

    [Theory]
    [InlineData("rows.jsonl")]
    [InlineData("rows.csv")]
    public void AStreamGoesOnFromEveryPosition(string name)
    {
        WriteRows(name, 60);
        const int steps = 50;
        using StreamedBatches whole = Stream(name, seed: 3, window: 100);
        List<(StreamPosition After, TrainingBatch Batch, string Name)> seen = [];
        for (int step = 0; step < steps; step++)
        {
            TrainingBatch batch = whole.Batches(step)[0];
            seen.Add((whole.Position!, batch, whole.Describe(step)));
        }

        Assert.True(seen[^1].After.Epoch > 0 && seen.Select(item => (item.After.Epoch, item.After.Unit, item.After.Skip)).Distinct().Count() > 3);
        for (int start = 1; start < steps; start += 6)
        {
            using StreamedBatches part = Stream(name, seed: 3, window: 100);
            part.GoTo(start, seen[start - 1].After);
            for (int step = start; step < steps; step++)
            {
                Assert.Equal(seen[step].Batch.Ids, part.Batches(step)[0].Ids);
                Assert.Equal((seen[step].After, seen[step].Name), (part.Position!, part.Describe(step)));
            }
        }
    }

    [Fact]
    public void TheReaderIsAheadByABoundedPartOfTheData()
    {
        WriteRows("rows.jsonl", 3000);
        string[] lines = File.ReadAllLines(_folder["rows.jsonl"]);
        File.WriteAllLines(_folder["rows.jsonl"], lines.Select((line, i) => i % 100 == 50 ? "{}" : line));
        int notes = 0;
        using StreamedBatches stream = Stream("rows.jsonl", seed: 1, options: new DataOptions { SkipBad = true, Note = _ => Interlocked.Increment(ref notes) });
        stream.Batches(0);
        Thread.Sleep(200);
        // Of 30 windows' worth of bad rows those of the window that is read and the few steps that wait were seen.
        Assert.InRange(notes, 0, 5);
    }

    [Fact]
    public void ABadRowEndsTheTrainingWithItsPlaceUnlessItIsSkipped()
    {
        WriteRows("rows.jsonl", 40);
        File.AppendAllText(_folder["rows.jsonl"], "{\"prompt\": 1}\n");
        NibbleException error = Assert.Throws<NibbleException>(() => Epochs("rows.jsonl", 1, 100));
        Assert.Contains("rows.jsonl byte ", error.Message, StringComparison.Ordinal);
        Assert.Equal(40, Epochs("rows.jsonl", 1, 40, new DataOptions { SkipBad = true }).Distinct().Count());
    }

    [Fact]
    public void DataWithoutRowsIsRefused()
    {
        File.WriteAllText(_folder["rows.jsonl"], "\n\n");
        Assert.Contains("no tokens to train on", Assert.Throws<NibbleException>(() => Epochs("rows.jsonl", 1, 2)).Message, StringComparison.Ordinal);
    }

    private static int Number(TrainingBatch batch, int row)
    {
        string text = Tokens.Decode([.. batch.Ids.Skip(row * batch.Length).Take(batch.Length)]);
        return int.Parse(text.Split('#')[1], System.Globalization.CultureInfo.InvariantCulture);
    }

    private int[] Epochs(string name, int seed, int rows, DataOptions? options = null)
    {
        using StreamedBatches stream = Stream(name, seed, options);
        return [.. Enumerable.Range(0, rows / 2).SelectMany(step =>
        {
            TrainingBatch batch = stream.Batches(step)[0];
            return new[] { Number(batch, 0), Number(batch, 1) };
        })];
    }

    private StreamedBatches Stream(string name, int seed, DataOptions? options = null, int window = 300) =>
        new(Open(name), new StreamSettings(name, Tokens, 64, false, CounterRandom.Key((ulong)seed), options ?? new DataOptions(), window), 2, 1);

    private DataSet Open(string name) => DataSet.Open(_folder[name], null, Limits.Default, "train");

    private void WriteRows(string name, int count)
    {
        IEnumerable<string> lines = name.Contains(".csv", StringComparison.Ordinal)
            ? Enumerable.Range(0, count).Select(i => $"n#{i}#,done").Prepend("prompt,completion")
            : Enumerable.Range(0, count).Select(i => $$"""{"prompt":"n#{{i}}#","completion":"done"}""");
        byte[] bytes = System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines) + "\n");
        using Stream file = File.Create(_folder[name]);
        using Stream target = name.EndsWith(".gz", StringComparison.Ordinal) ? new System.IO.Compression.GZipStream(file, System.IO.Compression.CompressionLevel.Fastest) : file;
        target.Write(bytes);
    }
}
