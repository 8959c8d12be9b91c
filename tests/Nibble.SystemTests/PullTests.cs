using System.Diagnostics;
using Nibble.Tests.Hub;

namespace Nibble.SystemTests;

/// <summary><c>nibble pull</c> and <c>nibble cache</c> as processes, against a server on this machine.</summary>
public sealed class PullTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-pull-").FullName;
    private readonly FakeHub _hub;
    private readonly Dictionary<string, string> _environment;

    public PullTests()
    {
        _hub = new FakeHub(_folder);
        foreach (string file in Directory.GetFiles(Path.Combine(Repository.Root, "assets", "nibble-llama-4m")))
        {
            _hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        }

        _environment = new() { ["HF_HUB_CACHE"] = _folder, ["HF_ENDPOINT"] = _hub.Settings.Endpoint.AbsoluteUri, ["HF_TOKEN"] = "hf_t", ["NIBBLE_RETRY_MS"] = "1", ["NIBBLE_RUNS"] = Path.Combine(_folder, "runs.db") };
        _hub.Token = "hf_t";
    }

    public void Dispose()
    {
        _hub.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void AModelIsPulledRunMeasuredListedAndDeletedByItsName()
    {
        CliResult pulled = Run("pull", "org/name");
        Assert.Equal(0, pulled.ExitCode);
        Assert.Equal(Path.Combine(_folder, "models--org--name", "snapshots", FakeHub.Commit) + "\n", pulled.Output);
        CliResult generated = Run("generate", "org/name", "--prompt", "def add(", "--max-tokens", "4", "--temperature", "0", "--json");
        Assert.True(generated.ExitCode == 0, generated.Errors);
        CliResult measured = Run("eval", "org/name", "--data", "demo", "--limit", "600", "--json");
        Assert.Equal("org/name", measured.Json.GetProperty("model").GetString());
        Assert.Equal("org/name", Run("cache", "--json").Json.GetProperty("models")[0].GetProperty("repository").GetString());
        // Not by its folder, which is a commit.
        Assert.Equal(0, Run("quantize", "org/name", "--method", "rtn", "-o", Path.Combine(_folder, "q")).ExitCode);
        Assert.Equal(0, Run("finetune", "org/name", "--demo", "--max-steps", "1", "--max-seq-length", "16", "-o", Path.Combine(_folder, "tuned")).ExitCode);
        Assert.All(Run("runs", "--json").Json.GetProperty("runs").EnumerateArray(), run => Assert.Equal("org/name", run.GetProperty("model").GetString()));
        Assert.Equal(2, Run("cache", "--dry-run").ExitCode);
        Assert.Equal((2, 0), (Run("cache", "--remove", "org/name@v1").ExitCode, Run("cache", "--remove", "org/name").ExitCode));
        CliResult gone = Run("generate", "org/name", "--prompt", "x");
        Assert.Equal(4, gone.ExitCode);
        Assert.Contains("nibble pull org/name", gone.Errors, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void CtrlCAndKillLoseNothing()
    {
        Interruptions.SkipIfIgnored();
        foreach (string signal in new[] { "-INT", "-KILL" })
        {
            // The first content of the weights is cut in half, and nothing comes after it.
            TaskCompletionSource gate = new();
            _hub.Cuts = 1;
            int sent = 0;
            _hub.Gate = _ => Interlocked.Increment(ref sent) <= 2 ? Task.CompletedTask : gate.Task;
            using Process process = Start();
            long half = _hub.Files["model.safetensors"].Length / 2;
            Assert.True(SpinWait.SpinUntil(() => Unfinished().Any(file => file.Exists && file.Length >= half), TimeSpan.FromSeconds(60)), "the half never came");
            Process.Start("kill", [signal, $"{process.Id}"]).WaitForExit();
            gate.SetResult();
            Assert.True(process.WaitForExit(60_000));
            Assert.Equal(signal == "-INT" ? 130 : 137, process.ExitCode);
            _hub.Gate = _ => Task.CompletedTask;
            _hub.Cuts = 0;
            CliResult second = Run("pull", "org/name", "--json");
            Assert.True(second.ExitCode == 0, second.Errors);
            Assert.InRange(second.Json.GetProperty("downloaded_bytes").GetInt64(), 0, half + 300_000);
            Assert.Equal(_hub.Files["model.safetensors"], File.ReadAllBytes(Path.Combine(second.Json.GetProperty("path").GetString()!, "model.safetensors")));
            Run("cache", "--remove", "org/name");
        }
    }

    private CliResult Run(params string[] arguments) => Cli.RunWith(_environment, arguments);

    private Process Start()
    {
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), "pull", "org/name"]) { RedirectStandardError = true, RedirectStandardOutput = true };
        _environment.ToList().ForEach(variable => start.Environment[variable.Key] = variable.Value);
        return Process.Start(start)!;
    }

    // One that gets its name meanwhile is asked for once, and is then not there.
    private IEnumerable<FileInfo> Unfinished() => new DirectoryInfo(_folder).EnumerateFiles("*.incomplete", SearchOption.AllDirectories);
}
