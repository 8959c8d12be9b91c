using System.Diagnostics;
using System.Text.Json;
using Nibble.Runs;

namespace Nibble.SystemTests;

/// <summary><c>nibble runs</c> with trainings and quantizations, also those that end before their end.</summary>
public sealed class RunsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-runs-").FullName;
    private readonly Dictionary<string, string> _environment;

    public RunsTests()
    {
        TinyModel.Write(Path.Combine(_folder, "model"));
        File.WriteAllLines(Path.Combine(_folder, "data.txt"), Enumerable.Range(0, 60).Select(i => $"line {i} of the text, {i * i} and more"));
        _environment = new() { ["NIBBLE_RUNS"] = Path.Combine(_folder, "runs.db") };
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_training_and_a_quantization_are_runs()
    {
        CliResult training = Cli.RunWith(_environment, [.. Training("tuned", 12), "--eval-data", Path.Combine(_folder, "data.txt"), "--eval-steps", "4", "--json"]);
        Assert.True(training.ExitCode == 0, training.Errors);
        CliResult quantized = Cli.RunWith(_environment, "quantize", Path.Combine(_folder, "model"), "--method", "rtn", "--bits", "4", "--group-size", "16", "-o", Path.Combine(_folder, "q"), "--json");
        Assert.True(quantized.ExitCode == 0, quantized.Errors);
        // What was called wrongly leaves no run.
        Assert.Equal(4, Cli.RunWith(_environment, "finetune", Path.Combine(_folder, "model"), "--data", Path.Combine(_folder, "none.txt"), "-o", Path.Combine(_folder, "x")).ExitCode);

        Assert.Equal([("quantize", "finished"), ("finetune", "finished")], Runs().Select(run => (Text(run, "kind"), Text(run, "status"))));
        JsonElement tuned = Run(1);
        Assert.Equal(12, Points(tuned, "train_loss").Length);
        Assert.Equal(training.Json.GetProperty("train_loss_last").GetDouble(), Points(tuned, "train_loss")[^1].Value);
        Assert.Equal([0, 4, 8, 12], Points(tuned, "heldout_nll").Select(point => point.Step));
        Assert.Equal(training.Json.GetProperty("heldout_nll_after").GetDouble(), Points(tuned, "heldout_nll_after")[0].Value);
        Assert.Equal(2, tuned.GetProperty("configuration").GetProperty("settings").GetProperty("rank").GetInt32());
        Assert.Contains(tuned.GetProperty("artefacts").EnumerateArray(), file => Text(file, "name") == "adapter_model.safetensors");
        JsonElement rounded = Run(2);
        Assert.Equal(quantized.Json.GetProperty("metrics").GetProperty("bits_per_weight").GetDouble(), Points(rounded, "bits_per_weight")[0].Value);
        Assert.Equal(16, rounded.GetProperty("configuration").GetProperty("settings").GetProperty("group_size").GetInt32());

        string shown = Cli.RunWith(_environment, "runs", "1").Errors;
        Assert.Contains("training loss", shown, StringComparison.Ordinal);
        Assert.Contains("(12)", shown, StringComparison.Ordinal);
        Assert.True(shown.Split('\n').Length < 120, shown);
    }

    [Fact]
    public void A_killed_training_is_lost_and_the_one_that_goes_on_has_its_curve()
    {
        const int steps = 4000;
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), .. Training("tuned", steps), "--save-steps", "1"]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["NIBBLE_RUNS"] = _environment["NIBBLE_RUNS"];
        using (Process process = Process.Start(start)!)
        {
            while (process.StandardError.ReadLine() is { } line && !line.StartsWith("step ", StringComparison.Ordinal))
            {
            }

            Assert.Equal("running", Text(Runs()[0], "status"));
            // It has a checkpoint soon.
            for (int i = 0; i < 600 && Directory.GetDirectories(Path.Combine(_folder, "tuned"), "checkpoint-*").Length < 2; i++)
            {
                Thread.Sleep(50);
            }

            process.Kill();
            process.WaitForExit();
        }

        Assert.Equal("lost", Text(Runs()[0], "status"));
        Assert.Contains("without a word", Cli.RunWith(_environment, "runs").Errors, StringComparison.Ordinal);
        CliResult rest = Cli.RunWith(_environment, [.. Training("tuned", steps), "--resume"]);
        Assert.True(rest.ExitCode == 0, rest.Errors);
        JsonElement second = Run(2);
        Assert.Equal(("finished", 1), (Text(second, "status"), second.GetProperty("resumes").GetInt32()));
        (int Step, double Value)[] loss = Points(second, "train_loss");
        Assert.Equal((1, steps, 2001), (loss[0].Step, loss[^1].Step, loss.Length));
        // It counts what it did itself.
        Assert.True(Points(second, "steps")[0].Value < steps);
    }

    [Fact]
    public void A_store_that_is_off_or_cannot_be_written_is_no_reason_to_fail()
    {
        CliResult off = Cli.RunWith(new Dictionary<string, string> { ["NIBBLE_RUNS"] = "off", ["HOME"] = _folder, ["XDG_DATA_HOME"] = Path.Combine(_folder, "share") }, Training("one", 2));
        Assert.True(off.ExitCode == 0, off.Errors);
        Assert.DoesNotContain("warning", off.Errors, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder, "share")));
        // A folder is no file.
        CliResult none = Cli.RunWith(new Dictionary<string, string> { ["NIBBLE_RUNS"] = _folder }, Training("two", 2));
        Assert.True(none.ExitCode == 0, none.Errors);
        Assert.Equal(2, none.Errors.Split("warning: the run store").Length);
    }

    [Fact]
    public void Cells_of_a_study_are_recorded_once_with_its_report()
    {
        string study = Path.Combine(_folder, "study.yaml"), output = Path.Combine(_folder, "out");
        File.WriteAllText(study, $"models: [{Path.Combine(_folder, "model")}]\nmethods: [{{method: none, dtype: f32}}, nf4]\ntasks:\n  perplexity: {{window: 16, limit: 64}}\n");
        for (int i = 0; i < 2; i++)
        {
            CliResult result = Cli.RunWith(_environment, "compare", study, "-o", output);
            Assert.True(result.ExitCode == 0, result.Errors);
        }

        Assert.Equal([("compare", "nf4"), ("compare", "none")], Runs().Select(run => (Text(run, "kind"), Text(run, "method"))));
        JsonElement report = Run(1).GetProperty("artefacts").EnumerateArray().Single(file => Text(file, "name") == "report.html");
        Assert.Equal(new FileInfo(Path.Combine(output, "report.html")).Length, report.GetProperty("bytes").GetInt64());
        Assert.Equal("study", Text(Run(2).GetProperty("configuration"), "study"));
    }

    [Fact]
    public void Runs_are_deleted_and_what_they_wrote_stays()
    {
        Assert.Equal(0, Cli.RunWith(_environment, Training("tuned", 2)).ExitCode);
        using (RunStore store = RunStore.Open(_environment["NIBBLE_RUNS"]))
        {
            // Not by Nibble, and one that this very process works on.
            store.Finish(store.Start(new NewRun("eval", "tiny", "nf4", "no JSON", "{")), RunEnd.Finished);
            store.Start(new NewRun("eval", "tiny", "nf4", "{}", "{}"));
        }

        Assert.Equal((2, false), (Run(2).GetProperty("id").GetInt32(), Run(2).TryGetProperty("configuration", out _)));
        CliResult dry = Cli.RunWith(_environment, "runs", "--remove", "1", "--dry-run");
        Assert.Contains($"would be deleted; what it wrote stays: {Path.Combine(_folder, "tuned")}", dry.Errors, StringComparison.Ordinal);
        Assert.Equal(3, Runs().Length);
        // All or none.
        Assert.Equal([4, 2, 2, 2], new[] { ["--remove", "1", "--remove", "99"], ["--remove", "1", "--remove", "3"], ["1", "--remove", "1"], new[] { "--dry-run" } }.Select(rest => Cli.RunWith(_environment, ["runs", .. rest]).ExitCode));
        Assert.Equal(3, Runs().Length);
        JsonElement removed = Cli.RunWith(_environment, "runs", "--remove", "1", "--remove", "2", "--json").Json;
        Assert.Equal([1, 2], removed.GetProperty("runs").EnumerateArray().Select(run => run.GetProperty("id").GetInt32()));
        Assert.Equal(3, Assert.Single(Runs()).GetProperty("id").GetInt32());
        Assert.True(File.Exists(Path.Combine(_folder, "tuned", "adapter_model.safetensors")));
    }

    [Fact]
    public void A_damaged_store_is_no_defect_of_the_program()
    {
        string path = _environment["NIBBLE_RUNS"];
        using (RunStore store = RunStore.Open(path))
        {
            store.Start(new NewRun("eval", "tiny", "nf4", new string('x', 50_000), "{}"));
        }

        using (FileStream file = new(path, FileMode.Open))
        {
            // The schema is on the first page, which stays.
            file.Seek(4096, SeekOrigin.Begin);
            file.Write(Enumerable.Repeat((byte)0xA5, (int)file.Length - 4096).ToArray());
        }

        CliResult result = Cli.RunWith(_environment, "runs");
        Assert.Equal(5, result.ExitCode);
        Assert.Contains("NIBBLE_RUNS", result.Errors, StringComparison.Ordinal);
        Assert.DoesNotContain("defect", result.Errors, StringComparison.Ordinal);
    }

    private string[] Training(string output, int steps) =>
    [
        "finetune", Path.Combine(_folder, "model"), "--data", Path.Combine(_folder, "data.txt"), "--rank", "2", "--batch-size", "2", "--max-seq-length", "16",
        "--max-steps", $"{steps}", "--threads", "1", "-o", Path.Combine(_folder, output),
    ];

    private JsonElement[] Runs() => [.. Cli.RunWith(_environment, "runs", "--json").Json.GetProperty("runs").EnumerateArray()];

    private JsonElement Run(int number) => Cli.RunWith(_environment, "runs", $"{number}", "--json").Json;

    private static string? Text(JsonElement element, string name) => element.GetProperty(name).GetString();

    private static (int Step, double Value)[] Points(JsonElement run, string name) =>
        [.. run.GetProperty("metrics").EnumerateArray().Where(metric => Text(metric, "name") == name).Select(metric => (metric.GetProperty("step").GetInt32(), metric.GetProperty("value").GetDouble()))];
}
