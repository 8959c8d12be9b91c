using System.Reflection;
using Nibble.Runs.Studies;

namespace Nibble.Cli;

/// <summary>This program as a child of itself: how it is started again, and how a child notices that its parent is gone.</summary>
internal static class ChildProcess
{
    /// <summary>True if this process measures a cell for a parent.</summary>
    public static bool IsChild { get; } = Environment.GetEnvironmentVariable(CellProcess.ChildVariable) == "1";

    /// <summary>The command that starts this program.</summary>
    public static SelfCommand Self()
    {
        string process = Environment.ProcessPath ?? "dotnet";
        string assembly = Assembly.GetExecutingAssembly().Location;
        bool isHost = Path.GetFileNameWithoutExtension(process).Equals("dotnet", StringComparison.OrdinalIgnoreCase);
        return isHost ? new SelfCommand(process, [assembly]) : new SelfCommand(process, []);
    }

    /// <summary>A source that is also cancelled when the parent of a child process ends: then standard input ends.</summary>
    public static CancellationTokenSource WatchParent(CancellationToken cancellation)
    {
        CancellationTokenSource source = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (IsChild)
        {
            Thread watch = new(() => WaitForEnd(source)) { IsBackground = true, Name = "parent watch" };
            watch.Start();
        }

        return source;
    }

    private static void WaitForEnd(CancellationTokenSource source)
    {
        using Stream input = Console.OpenStandardInput();
        byte[] buffer = new byte[64];
        while (input.Read(buffer) > 0)
        {
        }

        // The work may not come to its next step for long, and nobody waits for it.
        try
        {
            source.CancelAfter(TimeSpan.Zero);
            Thread.Sleep(TimeSpan.FromSeconds(5));
        }
        catch (ObjectDisposedException)
        {
            return;
        }

        Environment.Exit((int)IO.ErrorKind.Interrupted);
    }
}
