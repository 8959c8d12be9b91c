using System.Text.Json;
using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary>nibble bench as a user runs it.</summary>
public class BenchTests
{
    [SkippableFact]
    public void ThePeerTakesTurnsAndItsNumbersStandBesideOurs()
    {
        Skip.If(OperatingSystem.IsWindows(), "the peer's stand-in is a shell script");
        string peer = Path.Combine(Path.GetTempPath(), $"nibble-peer-{Guid.NewGuid():N}");
        try
        {
            File.WriteAllText(peer, "#!/bin/sh\necho '[{\"avg_ts\": 12.5}]'\n");
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(peer, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            }

            CliResult result = Cli.Run(
                "bench", AssetFolder.Find("assets/nibble-llama-4m"), "--methods", "none,nf4", "--threads", "1", "--prompt-tokens", "4", "--decode-tokens", "2", "--rounds", "1",
                "--peer", "llama-bench=" + peer, "--peer-model", peer, "--json");
            Assert.Equal(0, result.ExitCode);
            JsonElement[] cells = [.. result.Json.GetProperty("cells").EnumerateArray()];
            Assert.Equal(["none", "nf4"], cells.Select(cell => cell.GetProperty("method").GetString()));
            Assert.All(cells, cell => Assert.Equal(12.5, cell.GetProperty("metrics").GetProperty("peer_decode_tokens_per_second").GetDouble()));
        }
        finally
        {
            File.Delete(peer);
        }
    }

    [Theory]
    [InlineData(2, "neither was given", "bench")]
    [InlineData(2, "choose from", "bench", "--shapes", "llama-9000b")]
    [InlineData(2, "--peer-model", "bench", "--shapes", "gpt2-10m", "--peer", "openblas=x")]
    [InlineData(4, "does not exist", "bench", "--shapes", "gpt2-10m", "--peer", "llama-bench=no/such/program", "--peer-model", "no.gguf")]
    public void FailuresHaveAMessageAndTheirExitCode(int code, string message, params string[] arguments)
    {
        CliResult result = Cli.Run(arguments);
        Assert.Equal((code, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains(message, result.Errors, StringComparison.Ordinal);
    }
}
