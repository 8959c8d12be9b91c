using System.Diagnostics;
using Dapper;
using Microsoft.Data.Sqlite;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Runs;
using Nibble.Tuning;

namespace Nibble.Tests.Runs;

/// <summary>Runs that are recorded while they work.</summary>
public sealed class LiveRunTests : IDisposable
{
    private static readonly NewRun Tiny = new("finetune", "tiny", "lora", "{}", "{}");
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-live-").FullName;
    private readonly List<string> _warnings = [];

    private string Store => Path.Combine(_folder, "runs.db");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Numbers_are_there_while_it_works()
    {
        using LiveRun run = LiveRun.Start(Store, _ => Tiny, _warnings.Add);
        run.Add(new RunMetric("train_loss", 1, 3.5));
        run.Progress(0.5);
        using RunStore reader = RunStore.Open(Store);
        Stopwatch clock = Stopwatch.StartNew();
        while (reader.Find(1)!.Progress is null && clock.Elapsed < TimeSpan.FromSeconds(30))
        {
            Thread.Sleep(50);
        }

        Assert.Equal(("running", 0.5), (reader.Find(1)!.Status, reader.Find(1)!.Progress));
        Assert.Equal([new RunMetric("train_loss", 1, 3.5)], reader.Metrics(1));
        run.Add(new RunMetric("train_loss", 2, 3.25));
        run.Finish(RunEnd.Finished, artefacts: [new RunArtefact("a", "/a", 3)]);
        run.Finish(RunEnd.Failed);
        Assert.Equal(("finished", 1.0), (reader.Find(1)!.Status, reader.Find(1)!.Progress));
        Assert.Equal(2, reader.Metrics(1).Count);
        Assert.Single(reader.Artefacts(1));
        Assert.Empty(_warnings);
    }

    [Fact]
    public void An_end_that_cannot_be_written_is_not_promised()
    {
        using LiveRun run = LiveRun.Start(Store, _ => Tiny, _warnings.Add);
        using (SqliteConnection other = new($"Data Source={Store};Pooling=False"))
        {
            other.Open();
            other.Execute("create trigger refuses before update on runs when new.finished is not null begin select raise(abort, 'no end'); end");
        }

        run.Finish(RunEnd.Finished);
        string warning = Assert.Single(_warnings);
        Assert.Contains("no end", warning, StringComparison.Ordinal);
        Assert.Contains("lost", warning, StringComparison.Ordinal);
        Assert.DoesNotContain("tried again", warning, StringComparison.Ordinal);
    }

    [Fact]
    public void The_end_is_that_of_the_work()
    {
        Assert.Equal(7, While(() => 7));
        Assert.Throws<OperationCanceledException>(() => While(() => throw new OperationCanceledException()));
        Assert.Throws<NibbleException>(() => While(() => throw new NibbleException(ErrorKind.BadInput, "no model", "why", "what")));
        Assert.Throws<InvalidOperationException>(() => While(() => throw new InvalidOperationException("odd")));
        // A typing error is no run; the same error in the middle of the work is one.
        Assert.Throws<NibbleException>(() => While(() => throw new NibbleException(ErrorKind.NotFound, "no such file")));
        Assert.Throws<NibbleException>(() => WithRun(run =>
        {
            run.Progress(0.1);
            throw new NibbleException(ErrorKind.NotFound, "gone");
        }));
        LiveRun.Start(Store, _ => Tiny, _warnings.Add).Dispose();
        using RunStore store = RunStore.Open(Store);
        Assert.Equal(["finished", "interrupted", "failed", "failed", "failed", "failed"], store.List(10).Reverse().Select(run => run.Status));
        Assert.StartsWith("no model", store.Find(3)!.Note, StringComparison.Ordinal);
        Assert.Contains("odd", store.Find(4)!.Note, StringComparison.Ordinal);
    }

    [Fact]
    public void A_store_that_cannot_be_opened_costs_one_warning()
    {
        using LiveRun run = LiveRun.Start(_folder, _ => Tiny, _warnings.Add);
        Assert.Null(run.Id);
        Assert.Equal(5, run.While(() =>
        {
            run.Add(new RunMetric("train_loss", 1, 1));
            run.Progress(1);
            return 5;
        }));
        Assert.Contains("cannot be opened", Assert.Single(_warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void What_could_not_be_written_is_tried_again()
    {
        using LiveRun run = LiveRun.Start(Store, _ => Tiny, text => { lock (_warnings) { _warnings.Add(text); } });
        using SqliteConnection other = new($"Data Source={Store};Pooling=False");
        other.Open();
        other.Execute("alter table metrics rename to away");
        run.Add(new RunMetric("train_loss", 1, 1));
        Stopwatch clock = Stopwatch.StartNew();
        while (Count() == 0 && clock.Elapsed < TimeSpan.FromSeconds(30))
        {
            Thread.Sleep(50);
        }

        Assert.Equal(1, Count());
        run.Add(new RunMetric("train_loss", 2, 2));
        other.Execute("alter table away rename to metrics");
        run.Finish(RunEnd.Finished);
        using RunStore store = RunStore.Open(Store);
        Assert.Equal([1.0, 2.0], store.Metrics(1).Select(metric => metric.Value));
        Assert.Equal("finished", store.Find(1)!.Status);
        Assert.Equal(1, Count());

        int Count()
        {
            lock (_warnings)
            {
                return _warnings.Count;
            }
        }
    }

    [Fact]
    public void A_long_training_has_points_that_are_means_and_a_resumed_one_the_steps_before()
    {
        const int steps = 5000, before = 1000;
        FineTunePlan plan = new(10, 100, [], new MemoryEstimate("lora", 100, 10, []));
        static StepReport Step(int step) => new(step, steps, step % 2 == 0 ? 1 : 3, 1, 1e-3, 10, 0.5, 20);
        using (LiveRun run = LiveRun.Start(Store, _ => Tiny, _warnings.Add))
        {
            TrainingRecorder recorder = new(run);
            recorder.Started(new TrainingStart(plan, steps, [.. Enumerable.Range(1, before).Select(Step)], [new EvaluationReport(0, 4), new EvaluationReport(500, 3, 0.5, 0.25)], () => 42, () => null));
            for (int step = before + 1; step <= steps; step++)
            {
                recorder.Stepped(Step(step));
            }

            run.Finish(RunEnd.Finished);
        }

        using RunStore store = RunStore.Open(Store);
        RunMetric[] loss = [.. store.Metric(1, "train_loss")];
        Assert.InRange(loss.Length, TrainingRecorder.MostPoints / 2, TrainingRecorder.MostPoints + 1);
        Assert.Equal((1L, (long)steps), (loss[0].Step, loss[^1].Step));
        // Of three steps two are 3 or two are 1.
        Assert.All(loss[1..^1], point => Assert.True(point.Step == 3 || Math.Abs(point.Value - 2) < 0.34, $"{point}"));
        Assert.All(store.Metric(1, "step_tokens_per_second"), point => Assert.Equal(40, point.Value, 9));
        RunMetric[] time = [.. store.Metric(1, "elapsed_seconds")];
        Assert.True(time.Zip(time.Skip(1)).All(pair => pair.First.Value <= pair.Second.Value));
        Assert.InRange(time.Last(point => point.Step <= before).Value, 499, 500);
        Assert.Equal([0L, 500], store.Metric(1, "heldout_nll").Select(point => point.Step));
        Assert.Equal(0.25, Assert.Single(store.Metric(1, "heldout_macro_f1")).Value);
        Assert.Equal(42, store.Metric(1, "energy_so_far_joules")[^1].Value);
        Assert.Empty(store.Metric(1, "device_memory_bytes"));
    }

    [Fact]
    public void A_training_tells_every_step_and_evaluation()
    {
        using TempFolder folder = new();
        string text = Path.Combine(TestData.Assets, "text", "tune-train.txt");
        File.WriteAllText(folder["train.txt"], File.ReadAllText(text)[..3000]);
        FineTuneOptions options = new()
        {
            Model = Path.Combine(TestData.Assets, "nibble-llama-4m"), Data = folder["train.txt"], EvalData = folder["train.txt"], Output = folder["out"],
            Lora = new LoraSettings { Rank = 2 }, Trainer = new TrainerSettings { BatchSize = 1, MaxSeqLength = 16, MaxSteps = 4, EvalSteps = 2, LearningRate = 1e-3 },
        };
        FineTuneReport report;
        using (LiveRun run = LiveRun.Start(Store, _ => Tiny, _warnings.Add))
        {
            TrainingRecorder recorder = new(run);
            report = FineTune.Run(options, observer: recorder);
            recorder.Ended(report, 1);
            run.Finish(RunEnd.Finished, artefacts: LiveRun.FilesOf(options.Output));
        }

        using RunStore store = RunStore.Open(Store);
        Assert.Equal(report.Log.Select(step => (double)step.Step), store.Metric(1, "train_loss").Select(point => (double)point.Step));
        Assert.Equal(report.Log.Select(step => step.Loss), store.Metric(1, "train_loss").Select(point => point.Value), (a, b) => Math.Abs(a - b) < 1e-12);
        Assert.Equal(report.Evaluations.Select(item => item.Loss), store.Metric(1, "heldout_nll").Select(point => point.Value));
        Assert.Equal(report.HeldOutAfter, Assert.Single(store.Metric(1, "heldout_nll_after")).Value);
        Assert.Contains(store.Artefacts(1), file => file.Name == PeftConfig.WeightsName && file.Bytes == new FileInfo(file.Path).Length);
    }

    [Theory]
    [InlineData(new double[0], "")]
    [InlineData(new double[] { 1 }, "")]
    [InlineData(new double[] { 2, 2 }, "▁▁")]
    [InlineData(new double[] { 8, 1, double.NaN, 4 }, "█▁▄")]
    public void A_course_fits_a_line(double[] values, string expected) => Assert.Equal(expected, RunCurve.Spark(values));

    [Fact]
    public void A_long_course_is_means_of_neighbours()
    {
        Assert.Equal([0.5, 2.5, 4.5], RunCurve.Thin([0, 1, 2, 3, 4, 5], 3));
        Assert.Equal(32, RunCurve.Spark([.. Enumerable.Range(0, 1001).Select(i => (double)i)]).Length);
    }

    private int While(Func<int> work) => WithRun(_ => work());

    private int WithRun(Func<LiveRun, int> work)
    {
        using LiveRun run = LiveRun.Start(Store, _ => Tiny, _warnings.Add);
        return run.While(() => work(run));
    }
}
