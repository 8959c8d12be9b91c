using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Nibble.SystemTests;

/// <summary>Quantization with a text that is killed goes on behind its last finished block and ends with the same bytes.</summary>
public sealed class ResumeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-resume-").FullName;

    [Theory]
    [InlineData("gptq", 20)]
    [InlineData("awq", 6)]
    [InlineData("quanto", 6)]
    [InlineData("nf4", 6)]
    public async Task KilledAtRandomMomentsItEndsWithTheSameBytes(string method, int kills)
    {
        string expected = Path.Combine(_folder, "expected"), output = Path.Combine(_folder, "output");
        long start = Stopwatch.GetTimestamp();
        Assert.Equal(0, Cli.Run(Arguments(expected, threads: 1, method)).ExitCode);
        double whole = Stopwatch.GetElapsedTime(start).TotalMilliseconds;

        Random random = new(5);
        int resumed = 0;
        for (int kill = 0; kill < kills; kill++)
        {
            int finished = FinishedBlocks();
            using Process process = Start(Arguments(output, threads: 2, method));
            Task<string> errors = process.StandardError.ReadToEndAsync();
            if (kill % 2 == 0)
            {
                // At any moment: before, between and within blocks, while something is written.
                process.WaitForExit((int)(random.NextDouble() * whole));
            }
            else
            {
                // Behind one block more than the run before, however fast this machine is just now.
                WaitForABlock(process, finished);
                process.WaitForExit(random.Next(60));
            }

            process.Kill();
            process.WaitForExit();

            resumed += (await errors).Contains("going on from an interrupted run", StringComparison.Ordinal) ? 1 : 0;
            if (Directory.Exists(output))
            {
                // It was faster than the kill: the next one starts over.
                AssertEqual(expected, output);
                Directory.Delete(output, recursive: true);
            }
        }

        CliResult last = Cli.Run(Arguments(output, threads: 2, method));
        Assert.True(last.ExitCode == 0, last.Errors);
        AssertEqual(expected, output);
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(_folder), path => Path.GetFileName(path).StartsWith('.'));
        Assert.True(resumed > 0, "no run found the blocks of the one before");
    }

    [Fact]
    public async Task TheFirstInterruptLeavesFinishedBlocksAndSaysSo()
    {
        string output = Path.Combine(_folder, "output");
        using Process process = Start(Arguments(output, threads: 1, samples: 24));
        Task<string> errors = process.StandardError.ReadToEndAsync();
        WaitForABlock(process, finished: 0);
        Assert.Equal(0, Signal(process.Id, 2));
        process.WaitForExit();
        if (process.ExitCode == 0)
        {
            // The work ended before the signal came.
            return;
        }

        Assert.Equal(130, process.ExitCode);
        Assert.Contains("the same command goes on from there", await errors, StringComparison.Ordinal);
        Assert.False(Directory.Exists(output));
        CliResult rest = Cli.Run(Arguments(output, threads: 1, samples: 24));
        Assert.True(rest.ExitCode == 0, rest.Errors);
        Assert.Contains("going on from an interrupted run", rest.Errors, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int process, int signal);

    private void WaitForABlock(Process process, int finished)
    {
        while (!process.HasExited && FinishedBlocks() <= finished)
        {
            Thread.Sleep(2);
        }
    }

    private int FinishedBlocks()
    {
        string journal = Path.Combine(_folder, ".output.nibble-resume");
        try
        {
            return Directory.EnumerateFiles(journal, "block-*").Count(file => !file.EndsWith("tmp", StringComparison.Ordinal));
        }
        catch (DirectoryNotFoundException)
        {
            return 0;
        }
    }

    private static string[] Arguments(string output, int threads, string method = "gptq", int samples = 4) =>
    [
        "quantize", Path.Combine(Repository.Root, "assets", "nibble-llama-4m"), "--method", method, "--bits", "4", .. OwnSettings(method), "--data", "demo",
        "--samples", $"{samples}", "--sample-length", "32", "-o", output, "--threads", $"{threads}",
    ];

    private static string[] OwnSettings(string method) => method switch
    {
        "gptq" => ["--group-size", "64", "--act-order", "true"],
        "quanto" => ["--activation-bits", "8"],
        "nf4" => ["--double-quant", "true", "--compensate", "true"],
        _ => ["--group-size", "64"],
    };

    private static Process Start(string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["NIBBLE_RUNS"] = "off";
        Process process = Process.Start(start)!;
        process.OutputDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        return process;
    }

    private static void AssertEqual(string expected, string actual)
    {
        string[] names = [.. Directory.EnumerateFiles(expected).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        Assert.Equal(names, Directory.EnumerateFiles(actual).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal));
        Assert.All(names, name => Assert.True(File.ReadAllBytes(Path.Combine(expected, name)).AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(actual, name))), name));
    }
}
