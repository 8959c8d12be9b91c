using System.Text.Json;

namespace Nibble.SystemTests;

/// <summary>An adapter that brings a classification head is merged into a base that has none.</summary>
public sealed class MergeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-merge-").FullName;

    [Fact]
    public void AMergedClassifierAnswersAsBaseAndAdapter()
    {
        TinyModel.Write(At("model"));
        string Row(int i) => $$"""{"text": "{{(i % 3 == 0 ? "alpha" : "import")}} number {{i}}", "label": "{{(i % 3 == 0 ? "one" : "other")}}"}""";
        File.WriteAllLines(At("rows.jsonl"), Enumerable.Range(0, 40).Select(Row));
        Good("finetune", At("model"), "--task", "classification", "--data", At("rows.jsonl"), "--max-steps", "8", "--learning-rate", "2e-2", "--max-seq-length", "32", "-o", At("adapter"));
        Good("merge", At("model"), "--adapter", At("adapter"), "--dtype", "f32", "-o", At("merged"));
        Directory.CreateDirectory(At("set"));
        File.WriteAllLines(At("set/mapping.txt"), ["0\tone", "1\tother"]);
        File.WriteAllLines(At("set/test_text.txt"), Enumerable.Range(50, 12).Select(i => $"{(i % 3 == 0 ? "alpha" : "import")} number {i}"));
        File.WriteAllLines(At("set/test_labels.txt"), Enumerable.Range(50, 12).Select(i => i % 3 == 0 ? "0" : "1"));
        Assert.Equal(Metrics(At("model"), "--adapter", At("adapter")), Metrics(At("merged")));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static CliResult Good(params string[] arguments)
    {
        CliResult result = Cli.Run(arguments);
        Assert.True(result.ExitCode == 0, result.Errors);
        return result;
    }

    private (double Accuracy, double F1) Metrics(string model, params string[] more)
    {
        CliResult result = Good(["eval", model, .. more, "--tasks", "classification", "--data", At("set"), "--split", "test", "--json"]);
        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement metrics = document.RootElement.GetProperty("metrics");
        return (metrics.GetProperty("accuracy").GetDouble(), metrics.GetProperty("macro_f1").GetDouble());
    }

    private string At(string name) => Path.Combine(_folder, name);
}
