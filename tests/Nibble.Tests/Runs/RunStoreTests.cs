using Dapper;
using Microsoft.Data.Sqlite;
using Nibble.IO;
using Nibble.Runs;

namespace Nibble.Tests.Runs;

public sealed class RunStoreTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-runs-").FullName;

    private string Database => Path.Combine(_folder, "runs.db");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void What_is_put_in_comes_out_again()
    {
        string path = Path.Combine(_folder, "deep", "runs.db");
        using (RunStore store = RunStore.Open(path))
        {
            long run = store.Start(new NewRun("eval", "tiny", "nf4", "{\"bits\":4}", "{}"));
            store.Add(run, [new RunMetric("perplexity", 0, 9.5, 9.1, 9.9), new RunMetric("loss", 2, 1.5), new RunMetric("loss", 1, 2.5), new RunMetric("loss", 3, double.NaN)]);
            store.Add(run, [new RunMetric("loss", 2, 1.25)]);
            store.Replace(run, [new RunArtefact("old", "o", 1)]);
            store.Replace(run, [new RunArtefact("report", "r.html", 12)]);
            store.Finish(run, RunEnd.Interrupted, "go on");
            long second = store.Start(new NewRun("finetune", "tiny", "qlora", "{}", "{}") { Output = "/out", Resumes = run });
            store.Beat(second, 0.25);
            store.Beat(second, null);
            Assert.Equal((second, null), (store.ResumedBy(run), store.ResumedBy(second)));
        }

        using RunStore again = RunStore.Open(path);
        RunRecord[] runs = [.. again.List(10)];
        Assert.Equal([("finetune", "running"), ("eval", "interrupted")], runs.Select(run => (run.Kind, run.Status)));
        Assert.Equal(("/out", runs[1].Id, 0.25, "go on"), (runs[0].Output, runs[0].Resumes, runs[0].Progress, runs[1].Note));
        Assert.Equal(runs[0], again.FindOutput("finetune", "/out"));
        Assert.Null(again.FindOutput("quantize", "/out"));
        Assert.Equal(
            [new RunMetric("loss", 1, 2.5), new RunMetric("loss", 2, 1.25), new RunMetric("perplexity", 0, 9.5, 9.1, 9.9)], again.Metrics(runs[1].Id));
        Assert.Equal([1L, 2], again.Metric(runs[1].Id, "loss").Select(metric => metric.Step));
        Assert.Equal([new RunArtefact("report", "r.html", 12)], again.Artefacts(runs[1].Id));
        again.Remove(runs[1].Id);
        Assert.Empty(again.Metrics(runs[1].Id));
        // The one that went on from it does not seem to go on from whatever gets its number.
        Assert.Null(again.Find(runs[0].Id)!.Resumes);
        again.Remove(runs[0].Id, 999);
        Assert.Empty(again.List(10));
    }

    [Fact]
    public void A_result_document_becomes_a_run()
    {
        using RunStore store = RunStore.Open(Database);
        long run = RunRecorder.Record(store, "compare", ReportTests.Sample().Cells[3] with { Key = "abc" }, "a study", _folder);
        Assert.Contains(store.Metrics(run), metric => metric is { Name: "perplexity", Value: 9.68, Low: > 9, High: < 11 });
        Assert.Equal("nf4", store.List(1)[0].Method);
        Assert.Equal(run, store.FindKey("compare", _folder, "abc"));
        Assert.Null(store.FindKey("compare", _folder, "abd"));
        Assert.Null(store.FindKey("compare", "/elsewhere", "abc"));
    }

    [Fact]
    public void A_file_that_is_no_store_is_refused()
    {
        File.WriteAllText(Database, new string('x', 5000));
        Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => RunStore.Open(Database)).Kind);
    }

    [Fact]
    public void A_store_of_the_first_version_opens_even_in_several_processes_at_once()
    {
        using (SqliteConnection old = Connect())
        {
            // What Nibble wrote before its files had versions.
            old.Execute("""
                create table if not exists runs(
                  id integer primary key, kind text not null, started text not null, finished text, status text not null,
                  model text not null, method text not null, configuration text not null, environment text not null);
                create table if not exists metrics(
                  run integer not null references runs(id) on delete cascade, name text not null, step integer not null,
                  value real not null, low real, high real, primary key(run, name, step)) without rowid;
                create table if not exists artefacts(
                  run integer not null references runs(id) on delete cascade, name text not null, path text not null, bytes integer not null);
                insert into runs values(1, 'eval', '2026-01-02T03:04:05Z', '2026-01-02T03:05:05Z', 'finished', 'tiny', 'nf4', '{}', '{}');
                insert into runs values(2, 'eval', '2026-01-02T03:06:05Z', null, 'running', 'tiny', 'nf4', '{}', '{}');
                insert into metrics values(1, 'perplexity', 0, 9.5, 9.1, 9.9);
                """);
        }

        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ => RunStore.Open(Database).Dispose());
        using RunStore store = RunStore.Open(Database);
        Assert.Equal([(2L, "lost"), (1L, "finished")], store.List(10).Select(run => (run.Id, run.Status)));
        Assert.Equal([new RunMetric("perplexity", 0, 9.5, 9.1, 9.9)], store.Metrics(1));
        Assert.Equal(3, store.Start(new NewRun("finetune", "tiny", "lora", "{}", "{}") { Output = "/out" }));
    }

    [Fact]
    public void A_store_of_a_newer_version_is_refused_and_left_alone()
    {
        RunStore.Open(Database).Dispose();
        using (SqliteConnection newer = Connect())
        {
            newer.Execute("pragma user_version = 99");
        }

        NibbleException error = Assert.Throws<NibbleException>(() => RunStore.Open(Database));
        Assert.Contains("newer", error.Message, StringComparison.Ordinal);
        using SqliteConnection after = Connect();
        Assert.Equal(99, after.ExecuteScalar<int>("pragma user_version"));
    }

    [Fact]
    public void Filters_take_what_they_say()
    {
        using RunStore store = RunStore.Open(Database);
        long one = store.Start(new NewRun("eval", "tiny", "nf4", """{"data":"100%_Sure"}""", "{}"));
        store.Finish(one, RunEnd.Finished);
        long two = store.Start(new NewRun("finetune", "big", "lora", "{}", "{}"));
        long three = store.Start(new NewRun("finetune", "tiny", "lora", "{}", "{}"));
        long lost = store.Start(new NewRun("finetune", "tiny", "qlora", "{}", "{}"));
        using (SqliteConnection connection = Connect())
        {
            connection.Execute("update runs set process = 'elsewhere 1 1', beat = '2020-01-01T00:00:00Z' where id = @lost", new { lost });
        }

        long[] Ids(RunFilter filter, int most = 10) => [.. store.List(most, filter).Select(run => run.Id)];
        Assert.Equal([lost, three, two], Ids(new RunFilter { Kind = "finetune" }));
        Assert.Equal([three], Ids(new RunFilter { Kind = "finetune", Model = "tiny", Method = "lora" }));
        Assert.Equal([lost], Ids(new RunFilter { Status = "lost" }));
        Assert.Equal([three, two], Ids(new RunFilter { Status = "running" }));
        Assert.Equal([three], Ids(new RunFilter { Status = "running" }, most: 1));
        Assert.Equal([one], Ids(new RunFilter { Status = "finished" }));
        // Text is text: neither a pattern nor SQL.
        Assert.Equal([one], Ids(new RunFilter { Text = "100%_sure" }));
        Assert.Empty(Ids(new RunFilter { Text = "%" + "x' or 1=1 --" }));
        Assert.Equal([two, one], Ids(new RunFilter { Before = three }));
    }

    [Fact]
    public void A_process_is_told_from_one_that_has_its_number()
    {
        string now = DateTime.UtcNow.ToString("O"), old = DateTime.UtcNow.AddHours(-1).ToString("O");
        string[] parts = RunProcess.Current.Split(' ');
        Assert.True(RunProcess.IsAlive(RunProcess.Current, old));
        Assert.False(RunProcess.IsAlive(string.Join(' ', [.. parts[..^1], parts[^1] + "1"]), now));
        Assert.False(RunProcess.IsAlive(string.Join(' ', [.. parts[..^2], "999999999", parts[^1]]), now));
        // Elsewhere only the signs of life count.
        Assert.True(RunProcess.IsAlive("another machine 1 1", now));
        Assert.False(RunProcess.IsAlive("another machine 1 1", old));
        Assert.False(RunProcess.IsAlive(null, null));
    }

    private SqliteConnection Connect()
    {
        SqliteConnection connection = new($"Data Source={Database};Pooling=False");
        connection.Open();
        return connection;
    }
}
