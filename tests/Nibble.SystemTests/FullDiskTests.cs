using System.Diagnostics;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.SystemTests;

/// <summary>A disk of 1 MB, which only root can make (a tmpfs); elsewhere these tests are skipped.</summary>
public sealed class FullDiskTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-disk-").FullName;
    private readonly bool _mounted;

    public FullDiskTests() => _mounted = OperatingSystem.IsLinux() && Run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", _folder);

    [SkippableFact]
    public void AFileThatDoesNotFitIsRefusedWithPathAndBytesAndLeavesNothing()
    {
        NeedDisk();
        string target = Path.Combine(_folder, "a");
        NibbleException error = Assert.Throws<NibbleException>(() => AtomicFile.WriteAllBytes(target, new byte[3_000_000]));
        AssertRefused(error, target, "3,000,000 bytes needed");
    }

    [SkippableFact]
    public void ADiskThatFillsUpWhileWritingIsAnErrorToo()
    {
        NeedDisk();
        string target = Path.Combine(_folder, "a");
        AtomicFile.WriteAllText(target, "old");
        NibbleException error = Assert.Throws<NibbleException>(() =>
        {
            using AtomicFile file = AtomicFile.Create(target);
            for (int i = 0; i < 30; i++)
            {
                file.Write(new byte[100_000]);
            }

            file.Commit();
        });
        Assert.Equal(ErrorKind.Resource, error.Kind);
        Assert.Contains(target, error.What, StringComparison.Ordinal);
        Assert.Equal("old", File.ReadAllText(target));
        Assert.Single(Directory.GetFiles(_folder));
    }

    [SkippableFact]
    public void AModelThatDoesNotFitIsRefusedBeforeTheWork()
    {
        NeedDisk();
        string target = Path.Combine(_folder, "model.safetensors");
        NibbleException error = Assert.Throws<NibbleException>(() => SafetensorsWriter.Create(target, [new("w", DType.F32, new Shape(1024, 1024))]));
        AssertRefused(error, target, "bytes needed");
    }

    [SkippableFact]
    public void AFolderThatMayNotBeWrittenIsAnErrorWithItsPath()
    {
        NeedDisk();
        Skip.IfNot(Run("mount", "-o", "remount,ro", _folder), "the test disk could not be made read-only");
        string target = Path.Combine(_folder, "a");
        AssertRefused(Assert.Throws<NibbleException>(() => AtomicFile.WriteAllText(target, "x")), target, "1 bytes needed");
        Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => OutputFolder.Create(Path.Combine(_folder, "out"))).Kind);
    }

    [SkippableFact]
    public void ATrainingWhoseDiskFillsUpKeepsTheCheckpointBefore()
    {
        NeedDisk();
        string elsewhere = Directory.CreateTempSubdirectory("nibble-tune-").FullName, output = Path.Combine(_folder, "out"), filler = Path.Combine(_folder, "filler");
        try
        {
            TinyModel.Write(Path.Combine(elsewhere, "model"));
            File.WriteAllText(Path.Combine(elsewhere, "data.txt"), string.Join(' ', Enumerable.Range(0, 300)));
            FineTuneOptions options = new()
            {
                Model = Path.Combine(elsewhere, "model"), Data = Path.Combine(elsewhere, "data.txt"), Output = output,
                Trainer = new TrainerSettings { BatchSize = 2, MaxSeqLength = 16, MaxSteps = 4, SaveSteps = 1 },
            };
            NibbleException error = Assert.Throws<NibbleException>(() => FineTune.Run(options, step =>
            {
                if (step.Step == 3)
                {
                    Fill(filler);
                }
            }));
            Assert.Equal(ErrorKind.Resource, error.Kind);
            Assert.Equal(["checkpoint-1", "checkpoint-2"], Directory.GetDirectories(output).Select(path => Path.GetFileName(path)).Order());

            File.Delete(filler);
            FineTune.Run(options with { Resume = true });
            FineTune.Run(options with { Output = Path.Combine(elsewhere, "whole") });
            Assert.Equal(File.ReadAllBytes(Path.Combine(elsewhere, "whole", PeftConfig.WeightsName)), File.ReadAllBytes(Path.Combine(output, PeftConfig.WeightsName)));
        }
        finally
        {
            Directory.Delete(elsewhere, recursive: true);
        }
    }

    [SkippableFact]
    public void ATrainingWhoseResultHasNoRoomIsRefusedBeforeItsFirstStep()
    {
        NeedDisk();
        string elsewhere = Directory.CreateTempSubdirectory("nibble-tune-").FullName;
        try
        {
            TinyModel.Write(Path.Combine(elsewhere, "model"));
            File.WriteAllText(Path.Combine(elsewhere, "data.txt"), string.Join(' ', Enumerable.Range(0, 300)));
            Fill(Path.Combine(_folder, "filler"));
            FineTuneOptions options = new() { Model = Path.Combine(elsewhere, "model"), Data = Path.Combine(elsewhere, "data.txt"), Output = Path.Combine(_folder, "out"), Method = "full", Trainer = new TrainerSettings { MaxSteps = 1, MaxSeqLength = 16 } };
            NibbleException error = Assert.Throws<NibbleException>(() => FineTune.Run(options, _ => Assert.Fail("a step ran")));
            Assert.Equal(ErrorKind.Resource, error.Kind);
            Assert.Contains("no room for the result", error.What, StringComparison.Ordinal);
            Assert.Equal(["filler"], Directory.GetFileSystemEntries(_folder).Select(path => Path.GetFileName(path)));
        }
        finally
        {
            Directory.Delete(elsewhere, recursive: true);
        }
    }

    [SkippableFact]
    public void ABaselineThatDoesNotFitLeavesNothing()
    {
        NeedDisk();
        string text = Path.Combine(Path.GetTempPath(), $"nibble-{Guid.NewGuid():N}.txt");
        try
        {
            File.WriteAllText(text, string.Concat(Enumerable.Repeat("def add(a, b): return a + b\n", 200)));
            CliResult result = Cli.Run("eval", "nibble-llama-4m", "--tasks", "perplexity", "--data", text, "--save-baseline", Path.Combine(_folder, "b"));
            Assert.Equal(5, result.ExitCode);
            Assert.Empty(Directory.GetFileSystemEntries(_folder));
        }
        finally
        {
            File.Delete(text);
        }
    }

    public void Dispose()
    {
        if (_mounted)
        {
            Run("umount", _folder);
        }

        Directory.Delete(_folder, recursive: true);
    }

    private void AssertRefused(NibbleException error, string target, string bytes)
    {
        Assert.Equal(ErrorKind.Resource, error.Kind);
        Assert.Contains(target, error.What, StringComparison.Ordinal);
        Assert.Contains(bytes, error.What, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    private static void Fill(string path)
    {
        try
        {
            using FileStream file = new(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 1);
            while (true)
            {
                file.Write(new byte[1000]);
            }
        }
        catch (IOException)
        {
            // The disk is full, as wanted.
        }
    }

    private void NeedDisk() => Skip.IfNot(_mounted, "a small tmpfs could not be mounted (needs Linux and root)");

    private static bool Run(string program, params string[] arguments)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }
}
