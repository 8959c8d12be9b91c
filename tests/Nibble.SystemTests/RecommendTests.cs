using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace Nibble.SystemTests;

/// <summary><c>nibble recommend</c> as a process: it measures, chooses, and its command works as it is printed.</summary>
public sealed class RecommendTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-recommend-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void TheRecommendedFormCanBeMadeAndRun()
    {
        string model = Path.Combine(_folder, "tiny"), output = Path.Combine(_folder, "out");
        TinyModel.Write(model);
        string[] arguments = ["recommend", model, "--memory", "1GB", "--context", "64", "--limit", "512", "--minutes", "0.02", "--samples", "2", "--max-loss", "10", "--prefer", "size", "-o", output, "--json"];
        CliResult result = Cli.Run(arguments);
        Assert.True(result.ExitCode == 0, result.Errors);
        JsonElement[] candidates = [.. result.Json.GetProperty("candidates").EnumerateArray()];
        Assert.Equal(10, candidates.Length);
        Assert.Equal(2, candidates.Count(candidate => candidate.TryGetProperty("result", out _)));
        Assert.True(File.Exists(Path.Combine(output, "report.html")));
        Assert.Contains($"report: {Path.Combine(output, "report.html")}", result.Errors, StringComparison.Ordinal);
        JsonElement chosen = candidates.Single(candidate => candidate.GetProperty("label").GetString() == result.Json.GetProperty("recommended").GetString());
        string[] command = [.. chosen.GetProperty("command").GetString()!.Split(' ').Skip(1).Select(word => word == "OUT" ? Path.Combine(_folder, "made") : word)];
        Assert.True(Cli.Run(command) is { ExitCode: 0 }, string.Join(' ', command));
        Assert.Equal(0, Cli.Run("generate", Path.Combine(_folder, "made"), "--prompt", "def", "--max-tokens", "2").ExitCode);
        // The same command again measures nothing anew.
        Assert.Contains("measured before", Cli.Run(arguments).Errors, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task WhatIsInterruptedGoesOnAsItSays()
    {
        Interruptions.SkipIfIgnored();
        string[] arguments = ["recommend", "nibble-llama-4m", "--memory", "1GB", "--context", "64", "--limit", "512", "--samples", "2", "--threads", "1"];
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), .. arguments]) { RedirectStandardError = true, WorkingDirectory = _folder };
        start.Environment["NIBBLE_RUNS"] = "off";
        using Process process = Process.Start(start)!;
        StringBuilder said = new();
        while (await process.StandardError.ReadLineAsync() is { } line)
        {
            said.AppendLine(line);
            if (line.StartsWith("[2/", StringComparison.Ordinal))
            {
                Process.Start("kill", ["-INT", $"{process.Id}"]).WaitForExit();
                said.Append(await process.StandardError.ReadToEndAsync());
                break;
            }
        }

        await process.WaitForExitAsync();
        Assert.Equal(130, process.ExitCode);
        Assert.Contains("with -o nibble-recommend-1 goes on", said.ToString().ReplaceLineEndings(" "), StringComparison.Ordinal);
        CliResult rest = Cli.Run([.. arguments, "-o", Path.Combine(_folder, "nibble-recommend-1")]);
        Assert.True(rest.ExitCode == 0, rest.Errors);
        Assert.Contains("measured before", rest.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void WhereNothingFitsItSaysSo()
    {
        CliResult result = Cli.Run("recommend", Path.Combine(Repository.Root, "assets", "nibble-gpt2-10m"), "--memory", "20MB", "--json");
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("nothing to recommend", result.Errors, StringComparison.Ordinal);
        Assert.False(result.Json.TryGetProperty("recommended", out _));
        Assert.Equal(2, Cli.Run("recommend", "nibble-gpt2-10m", "--memory", "much").ExitCode);
    }
}
