using System.Diagnostics;
using Nibble.IO;

namespace Nibble.Cli;

/// <summary>Runs this command again in a process of its own.</summary>
internal static class FreshProcess
{
    /// <summary>Compares a quantized folder with its record.</summary>
    public static void Verify(string folder)
    {
        (int exit, string errors) = Run("quantize", folder, "--verify-only");
        if (exit != 0)
        {
            Throw.Failed("the quantized model does not read back as it was written", errors.Trim(), "nothing was kept; check memory and disk, and try again");
        }
    }

    private static (int Exit, string Errors) Run(params string[] arguments)
    {
        string self = Environment.ProcessPath ?? "dotnet";
        bool isHost = Path.GetFileNameWithoutExtension(self).Equals("dotnet", StringComparison.OrdinalIgnoreCase);
        ProcessStartInfo start = new(self, isHost ? [typeof(FreshProcess).Assembly.Location, .. arguments] : arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        output.Wait();
        return (process.ExitCode, errors);
    }
}
