using System.Diagnostics;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary><c>nibble compare</c>: a study that is killed goes on, a cell that fails costs only itself.</summary>
public sealed class CompareTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-compare-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Output => Path.Combine(_folder, "out");

    private string Study(string models, string methods)
    {
        string path = Path.Combine(_folder, "study.yaml");
        File.WriteAllText(path, $"models: [{models}]\nmethods: [{methods}]\ntasks:\n  perplexity: {{window: 64, limit: 400}}\n");
        return path;
    }

    private static string Llama => AssetFolder.Find("assets/nibble-llama-4m");

    [Fact]
    public void A_study_trains_first_and_says_what()
    {
        File.WriteAllText(Path.Combine(_folder, "train.txt"), File.ReadAllText(AssetFolder.Find("assets/text/tune-train.txt"))[..1500]);
        string path = Path.Combine(_folder, "study.yaml");
        File.WriteAllText(path, $$"""
            models:
              - path: {{Llama}}
                name: tuned
                prepare:
                  - finetune: {method: bitnet, data: train.txt, max_steps: 2, batch_size: 2, max_seq_length: 32}
                  - finetune: {method: qlora, rank: 2, data: train.txt, max_steps: 2, batch_size: 2, max_seq_length: 32}
            methods: [none]
            tasks:
              perplexity: {window: 64, limit: 200}
            """);
        CliResult result = Cli.Run("compare", path, "-o", Output, "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        JsonElement cell = result.Json.GetProperty("cells")[0];
        JsonElement[] training = [.. cell.GetProperty("training").EnumerateArray()];
        Assert.Equal(["bitnet", "qlora"], training.Select(item => item.GetProperty("method").GetString()));
        Assert.Equal("int8", cell.GetProperty("activation_dtype").GetString());
        Assert.Contains("finetune OUT1", cell.GetProperty("command").GetString(), StringComparison.Ordinal);
        Assert.Contains("What was trained", File.ReadAllText(Path.Combine(Output, "report.html")), StringComparison.Ordinal);
        Assert.Contains("| tuned | bitnet |", File.ReadAllText(Path.Combine(Output, "report.md")), StringComparison.Ordinal);
    }

    [Fact]
    public void A_killed_study_goes_on_without_repeating_finished_cells()
    {
        string study = Study(Llama, "{method: none, dtype: f32}, nf4, {method: rtn, bits: 4}");
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), "compare", study, "-o", Output])
        {
            RedirectStandardOutput = true, RedirectStandardError = true,
        };
        start.Environment["NIBBLE_RUNS"] = "off";
        string first;
        using (Process process = Process.Start(start)!)
        {
            first = WaitForCell(process);
            process.Kill();
            process.WaitForExit();
        }

        DateTime written = File.GetLastWriteTimeUtc(first);
        string content = File.ReadAllText(first);
        CliResult again = Cli.Run("compare", study, "-o", Output, "--json");
        Assert.True(again.ExitCode == 0, again.Errors);
        Assert.Contains("measured before", again.Errors, StringComparison.Ordinal);
        Assert.Equal(written, File.GetLastWriteTimeUtc(first));
        Assert.Equal(content, File.ReadAllText(first));

        JsonElement[] cells = [.. again.Json.GetProperty("cells").EnumerateArray()];
        Assert.Equal(["none", "nf4", "rtn"], cells.Select(cell => cell.GetProperty("method").GetString()));
        Assert.All(cells.Skip(1), cell => Assert.True(cell.GetProperty("metrics").TryGetProperty("kl", out _)));
        Assert.All(["results.json", "results.csv", "report.md", "report.html"], name => Assert.True(File.Exists(Path.Combine(Output, name)), name));
        Assert.False(Directory.Exists(Path.Combine(Output, "work")));

        CliResult third = Cli.Run("compare", study, "-o", Output);
        Assert.Equal(0, third.ExitCode);
        Assert.Equal(3, third.Errors.Split("measured before").Length - 1);
    }

    [Fact]
    public void A_calibrated_method_is_quantized_first_and_measured_like_the_others()
    {
        string study = Study(Llama, "{method: none, dtype: f32}, {method: gptq, bits: 4}, {method: rtn, bits: 4, group_size: 128}");
        File.AppendAllText(study, "calibration: {data: demo, samples: 4, length: 64}\n");
        CliResult result = Cli.Run("compare", study, "-o", Output, "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        JsonElement cell = result.Json.GetProperty("cells").EnumerateArray().Single(cell => cell.GetProperty("method").GetString() == "gptq");
        Assert.Equal(4, cell.GetProperty("bits").GetInt32());
        Assert.Equal("nibble-llama-4m", cell.GetProperty("model").GetString());
        Assert.True(cell.GetProperty("metrics").GetProperty("quantization_seconds").GetDouble() > 0);
        Assert.True(cell.GetProperty("metrics").GetProperty("kl").GetDouble() > 0);
        Assert.Contains("nibble quantize", cell.GetProperty("command").GetString(), StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(Output, "work")));
    }

    [Fact]
    public void A_failing_cell_is_reported_and_the_others_go_on()
    {
        string broken = Directory.CreateDirectory(Path.Combine(_folder, "broken")).FullName;
        foreach (string file in Directory.EnumerateFiles(Llama))
        {
            File.Copy(file, Path.Combine(broken, Path.GetFileName(file)));
        }

        using (FileStream weights = File.OpenWrite(Path.Combine(broken, "model.safetensors")))
        {
            weights.SetLength(weights.Length / 2);
        }

        CliResult result = Cli.Run("compare", Study($"{broken}, {Llama}", "none"), "-o", Output, "--json");
        Assert.Equal(1, result.ExitCode);
        JsonElement failure = Assert.Single(result.Json.GetProperty("failures").EnumerateArray());
        Assert.Equal(("broken", 3), (failure.GetProperty("model").GetString(), failure.GetProperty("exit_code").GetInt32()));
        Assert.StartsWith("error:", failure.GetProperty("error").GetString(), StringComparison.Ordinal);
        Assert.Equal("nibble-llama-4m", Assert.Single(result.Json.GetProperty("cells").EnumerateArray()).GetProperty("model").GetString());
        Assert.Contains("Failed cells", File.ReadAllText(Path.Combine(Output, "report.html")), StringComparison.Ordinal);
    }

    [Fact]
    public void A_dry_run_plans_and_touches_nothing()
    {
        CliResult result = Cli.Run("compare", Study(Llama, "none, nf4"), "-o", Output, "--dry-run", "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        Assert.Equal(2, result.Json.GetProperty("plan").GetArrayLength());
        Assert.False(Directory.Exists(Output));
    }

    [Fact]
    public void A_folder_that_holds_something_else_is_not_touched()
    {
        Directory.CreateDirectory(Output);
        File.WriteAllText(Path.Combine(Output, "mine.txt"), "mine");
        CliResult result = Cli.Run("compare", Study(Llama, "none"), "-o", Output, "--force");
        Assert.Equal(2, result.ExitCode);
        Assert.Equal(["mine.txt"], Directory.EnumerateFileSystemEntries(Output).Select(Path.GetFileName));
    }

    private string WaitForCell(Process process)
    {
        string cells = Path.Combine(Output, "cells");
        for (int i = 0; i < 6000 && !process.HasExited; i++)
        {
            if (Directory.Exists(cells) && Directory.EnumerateFiles(cells, "*.json").FirstOrDefault() is { } file)
            {
                return file;
            }

            Thread.Sleep(20);
        }

        throw new InvalidOperationException("no cell was finished: " + process.StandardError.ReadToEnd());
    }
}
