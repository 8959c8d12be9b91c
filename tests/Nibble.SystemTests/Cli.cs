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
    public static CliResult Run(params string[] arguments) => RunWith(new Dictionary<string, string>(), arguments);

    /// <summary>Runs the command with some environment variables. The user's run store is left alone unless one of them names another.</summary>
    public static CliResult RunWith(IReadOnlyDictionary<string, string> environment, params string[] arguments) => Start(environment, null, arguments);

    /// <summary>Runs the command with a text on stdin.</summary>
    public static CliResult RunInput(string input, params string[] arguments) => Start(new Dictionary<string, string>(), input, arguments);

    private static CliResult Start(IReadOnlyDictionary<string, string> environment, string? input, string[] arguments)
    {
        string assembly = Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll");
        ProcessStartInfo start = new("dotnet", [assembly, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = input is not null };
        start.Environment["NIBBLE_RUNS"] = "off";
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        if (input is not null)
        {
            process.StandardInput.Write(input);
            process.StandardInput.Close();
        }

        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new CliResult(process.ExitCode, output, errors.Result);
    }
}
