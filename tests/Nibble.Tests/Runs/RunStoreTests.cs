using Nibble.IO;
using Nibble.Runs;

namespace Nibble.Tests.Runs;

public sealed class RunStoreTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-runs-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void What_is_put_in_comes_out_again()
    {
        string path = Path.Combine(_folder, "deep", "runs.db");
        using (RunStore store = RunStore.Open(path))
        {
            long run = store.Start("eval", "tiny", "nf4", "{\"bits\":4}", "{}");
            store.Add(run, [new RunMetric("perplexity", 0, 9.5, 9.1, 9.9), new RunMetric("loss", 2, 1.5), new RunMetric("loss", 1, 2.5)]);
            store.Add(run, [new RunMetric("loss", 2, 1.25)]);
            store.Add(run, new RunArtefact("report", "r.html", 12));
            store.Finish(run, succeeded: true);
            store.Start("finetune", "tiny", "qlora", "{}", "{}");
        }

        using RunStore again = RunStore.Open(path);
        RunRecord[] runs = [.. again.List(10)];
        Assert.Equal([("finetune", "running"), ("eval", "finished")], runs.Select(run => (run.Kind, run.Status)));
        Assert.Equal(
            [new RunMetric("loss", 1, 2.5), new RunMetric("loss", 2, 1.25), new RunMetric("perplexity", 0, 9.5, 9.1, 9.9)], again.Metrics(runs[1].Id));
        Assert.Equal([new RunArtefact("report", "r.html", 12)], again.Artefacts(runs[1].Id));
    }

    [Fact]
    public void A_result_document_becomes_a_run()
    {
        using RunStore store = RunStore.Open(Path.Combine(_folder, "runs.db"));
        long run = RunRecorder.Record(store, "eval", ReportTests.Sample().Cells[3]);
        Assert.Contains(store.Metrics(run), metric => metric is { Name: "perplexity", Value: 9.68, Low: > 9, High: < 11 });
        Assert.Equal("nf4", store.List(1)[0].Method);
    }

    [Fact]
    public void A_file_that_is_no_store_is_refused()
    {
        string path = Path.Combine(_folder, "runs.db");
        File.WriteAllText(path, new string('x', 5000));
        Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => RunStore.Open(path)).Kind);
    }
}
