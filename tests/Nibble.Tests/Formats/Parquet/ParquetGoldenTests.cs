using System.Text.Json;
using Nibble.Data.Rows;
using Nibble.Formats.Parquet;
using Nibble.IO;
using Nibble.Templates;
using Xunit;

namespace Nibble.Tests.Formats.Parquet;

/// <summary>Files of Apache Arrow's own writer (see Goldens/parquet).</summary>
public class ParquetGoldenTests
{
    private static readonly string Folder = Path.Combine(TestData.Goldens, "parquet");

    private static TemplateRun Run => new(Limits.Default, TimeProvider.System);

    [SkippableTheory]
    [InlineData("plain")]
    [InlineData("dictionary-snappy")]
    [InlineData("gzip-v2")]
    [InlineData("zstd")]
    [InlineData("brotli")]
    [InlineData("delta")]
    public void FlatFilesHoldTheRowsThatWereWritten(string name)
    {
        Skip.If(name == "zstd" && !Zstd.IsAvailable, "this system has no libzstd");
        using ParquetFile file = ParquetFile.Open(Path.Combine(Folder, name + ".parquet"));
        IReadOnlyDictionary<string, object?>[] rows = [.. Enumerable.Range(0, file.RowGroups.Count).SelectMany(file.Rows)];
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Folder, "rows.json")));
        Assert.Equal((2, 40L), (file.RowGroups.Count, file.RowCount));
        Assert.Equal(document.RootElement.GetArrayLength(), rows.Length);
        for (int i = 0; i < rows.Length; i++)
        {
            OrderedDictionary<string, object?> expected = JsonValues.Map(document.RootElement[i]);
            Assert.Equal(expected.Keys, rows[i].Keys);
            foreach (string key in expected.Keys)
            {
                Assert.True(Values.AreEqual(expected[key], rows[i][key], Run), $"{name} row {i} {key}: {PythonText.Of(expected[key], Run)}, read {PythonText.Of(rows[i][key], Run)}");
            }
        }
    }

    [Fact]
    public void NestedListsKeepNullsAndEmptyLists()
    {
        using ParquetFile file = ParquetFile.Open(Path.Combine(Folder, "nested.parquet"));
        string[] rows = [.. file.Rows(0).Select(row => PythonText.Of(row, Run))];
        string[] expected =
        [
            "{'messages': [{'role': 'system', 'content': 'be short'}, {'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'hello'}], 'tags': ['a', None, 'b'], 'deep': [[1, 2], [], None, [3]]}",
            "{'messages': [], 'tags': None, 'deep': []}",
            "{'messages': None, 'tags': [], 'deep': None}",
            "{'messages': [{'role': 'user', 'content': 'what?'}, {'role': None, 'content': 'nothing'}], 'tags': ['c'], 'deep': [[None], [4, 5]]}",
            "{'messages': [{'role': 'user', 'content': None}], 'tags': [None], 'deep': [[]]}",
        ];
        Assert.Equal(string.Join('\n', expected), string.Join('\n', rows));
    }

    [Fact]
    public void AnUnreadCodecIsNamed()
    {
        using ParquetFile file = ParquetFile.Open(Path.Combine(Folder, "lz4.parquet"));
        NibbleException error = Assert.Throws<NibbleException>(() => file.Rows(0).ToArray());
        Assert.Contains("LZ4", error.Message, StringComparison.Ordinal);
        Assert.Contains("snappy", error.Message, StringComparison.Ordinal);
    }
}
