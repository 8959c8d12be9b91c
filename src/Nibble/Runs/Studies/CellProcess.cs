using System.Diagnostics;
using Nibble.IO;

namespace Nibble.Runs.Studies;

/// <summary>How this program is started again: the file and the arguments that come before a verb.</summary>
/// <param name="File">An executable.</param>
/// <param name="Arguments">For example the path of the .dll that dotnet runs.</param>
public sealed record SelfCommand(string File, IReadOnlyList<string> Arguments);

/// <summary>
/// Runs one cell in a process of its own, so that peak memory is the cell's, and a crash costs one cell. The child watches its
/// standard input and ends when that closes: even a parent that is killed leaves nothing running.
/// </summary>
internal sealed class CellProcess(SelfCommand self)
{
    /// <summary>Set for a child: it ends when its standard input closes.</summary>
    public const string ChildVariable = "NIBBLE_CHILD";

    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(10);

    /// <summary>What a process left behind.</summary>
    /// <param name="ExitCode">Its exit code.</param>
    /// <param name="Output">Everything on stdout.</param>
    /// <param name="Errors">Everything on stderr.</param>
    public sealed record Outcome(int ExitCode, string Output, string Errors);

    /// <summary>Runs <c>nibble</c> with <paramref name="arguments"/> to its end.</summary>
    public Outcome Run(IEnumerable<string> arguments, CancellationToken cancellation)
    {
        ProcessStartInfo start = new(self.File, [.. self.Arguments, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment[ChildVariable] = "1";
        using Process process = Process.Start(start)
            ?? throw new NibbleException(ErrorKind.Failed, $"the process of a cell could not be started: {self.File}");
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        using (cancellation.Register(() => Stop(process)))
        {
            process.WaitForExit();
        }

        cancellation.ThrowIfCancellationRequested();
        return new Outcome(process.ExitCode, output.GetAwaiter().GetResult(), errors.GetAwaiter().GetResult());
    }

    // Ctrl-C reaches the child too, and it ends by itself; closing its input asks the same where the signal did not come.
    private static void Stop(Process process)
    {
        try
        {
            process.StandardInput.Close();
            if (!process.WaitForExit(Grace))
            {
                process.Kill(entireProcessTree: true);
            }
        }
        catch (Exception error) when (error is InvalidOperationException or IOException)
        {
            // It has ended meanwhile.
        }
    }
}
