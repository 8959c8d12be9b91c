using System.Diagnostics;
using Nibble.Formats;

namespace Nibble.SystemTests;

/// <summary>Trainings that end before their end.</summary>
public sealed class KilledTrainingTests : IDisposable
{
    // An interruption must find the training at work: so many steps of this model are over a second.
    private const int Kills = 20, Steps = 300, ManySteps = 4000;
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-train-").FullName;

    public KilledTrainingTests()
    {
        TinyModel.Write(Path.Combine(_folder, "model"));
        File.WriteAllLines(Path.Combine(_folder, "data.txt"), Enumerable.Range(0, 60).Select(i => $"line {i} of the text, {i * i} and more"));
    }

    [Fact]
    public void KilledTwentyTimesItEndsWithTheSameBytes()
    {
        CliResult whole = Cli.Run(Arguments("whole", Steps, "--threads", "2"));
        Assert.True(whole.ExitCode == 0, whole.Errors);
        Random random = new(1);
        for (int kill = 0; kill < Kills; kill++)
        {
            int newest = Newest();
            using Process training = Start(Arguments("parts", Steps, "--save-steps", "1", "--threads", $"{1 + (kill % 2)}", newest > 0 ? "--resume" : "--force"));
            WaitForStep(training);
            // Every other time in the middle of a step or of the first save, else some time after a checkpoint.
            while (kill % 2 == 0 && Newest() == newest && !training.HasExited)
            {
                Thread.Sleep(5);
            }

            Thread.Sleep(random.Next(60));
            training.Kill();
            training.WaitForExit();
        }

        Assert.True(Newest() > 0);
        CliResult rest = Cli.Run(Arguments("parts", Steps, "--resume"));
        Assert.True(rest.ExitCode == 0, rest.Errors);
        Assert.Equal(Weights("whole"), Weights("parts"));
        Assert.Equal(Steps, File.ReadLines(Path.Combine(_folder, "parts", "training_log.jsonl")).Count());
    }

    [SkippableTheory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public void TheFirstInterruptionSavesAndLeaves(string name)
    {
        Interruptions.SkipIfIgnored();
        Assert.Equal(0, Cli.Run(Arguments("whole", ManySteps)).ExitCode);
        using Process training = Start(Arguments("parts", ManySteps));
        WaitForStep(training);
        using (Process signal = Process.Start("kill", [$"-{name}", $"{training.Id}"]))
        {
            signal.WaitForExit();
        }

        training.WaitForExit();
        Assert.Equal(130, training.ExitCode);
        Assert.Single(Directory.GetDirectories(Path.Combine(_folder, "parts"), "checkpoint-*"));
        Assert.Equal(0, Cli.Run(Arguments("parts", ManySteps, "--resume")).ExitCode);
        Assert.Equal(Weights("whole"), Weights("parts"));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static void WaitForStep(Process training)
    {
        // Progress of the first step comes at once; what comes later is little and fits the pipe.
        while (training.StandardError.ReadLine() is { } line && !line.StartsWith("step ", StringComparison.Ordinal))
        {
        }
    }

    private static Process Start(string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["NIBBLE_RUNS"] = "off";
        return Process.Start(start)!;
    }

    /// <summary>The step of the newest whole checkpoint; 0 for none.</summary>
    private int Newest() => !Directory.Exists(Path.Combine(_folder, "parts")) ? 0 : Directory.EnumerateDirectories(Path.Combine(_folder, "parts"), "checkpoint-*")
        .Where(path => File.Exists(Path.Combine(path, "manifest.json")))
        .Select(path => int.TryParse(Path.GetFileName(path).AsSpan("checkpoint-".Length), out int step) ? step : 0)
        .DefaultIfEmpty(0).Max();

    private byte[] Weights(string name) => File.ReadAllBytes(Path.Combine(_folder, name, PeftConfig.WeightsName));

    private string[] Arguments(string output, int steps, params string[] more) =>
    [
        "finetune", Path.Combine(_folder, "model"), "--data", Path.Combine(_folder, "data.txt"), "--rank", "2", "--dropout", "0.1", "--batch-size", "2",
        "--max-seq-length", "16", "--max-steps", $"{steps}", "-o", Path.Combine(_folder, output), .. more,
    ];
}
