using Nibble.Runs;

namespace Nibble.Cli;

/// <summary>What the verbs record in the user's run store. That it cannot be written is said once, and is no reason to fail.</summary>
internal static class RunRecording
{
    /// <summary>The store, or null where nothing is recorded: it is off, or this process works for a parent that records.</summary>
    public static string? StorePath => ChildProcess.IsChild ? null : RunStore.DefaultPath;

    /// <summary>Starts to record long work.</summary>
    public static LiveRun Start(Func<RunStore, NewRun> describe) => StorePath is { } path ? LiveRun.Start(path, describe, Warn) : LiveRun.Unrecorded();

    /// <summary>Says that something was not recorded.</summary>
    public static void Warn(string message) => Console.Error.WriteLine("warning: " + message);
}
