using System.Diagnostics;
using System.Text.Json;

namespace Nibble.SystemTests;

/// <summary>What a run of the command gave.</summary>
internal sealed record CliResult(int ExitCode, string Output, string Errors)
{
    /// <summary>The one JSON document on stdout.</summary>
    public JsonElement Json => JsonDocument.Parse(Output).RootElement;
}

/// <summary>Runs the command as a process of its own.</summary>
internal static class Cli
{
    public static CliResult Run(params string[] arguments)
    {
        string assembly = Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll");
        ProcessStartInfo start = new("dotnet", [assembly, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new CliResult(process.ExitCode, output, errors.Result);
    }
}
