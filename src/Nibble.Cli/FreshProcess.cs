using System.Diagnostics;
using Nibble.IO;
using Nibble.Runs.Studies;

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
        SelfCommand self = ChildProcess.Self();
        ProcessStartInfo start = new(self.File, [.. self.Arguments, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        output.Wait();
        return (process.ExitCode, errors);
    }
}
