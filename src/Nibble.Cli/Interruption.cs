using System.Runtime.InteropServices;

namespace Nibble.Cli;

/// <summary>Ctrl-C and SIGTERM: the first asks the work to finish its step, save and leave; the second stops at once.</summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();

    private readonly PosixSignalRegistration _termination;

    public Interruption()
    {
        Console.CancelKeyPress += OnCancel;
        _termination = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnTermination);
    }

    /// <summary>Asked before the whole work is: true if a Ctrl-C only ended a part of it. Null where there are no parts.</summary>
    public static Func<bool>? EndPart { get; set; }

    /// <summary>True for servers, whose host ends them by itself after SIGTERM; that is no failure.</summary>
    public static bool IsServer { get; set; }

    /// <summary>What a first Ctrl-C says.</summary>
    public static string Notice { get; set; } = "stopping after this step (Ctrl-C again stops at once)";

    public CancellationToken Token => _source.Token;

    public bool Requested => _source.IsCancellationRequested;

    public void Dispose()
    {
        Console.CancelKeyPress -= OnCancel;
        _termination.Dispose();
        _source.Dispose();
    }

    // Containers, service managers and schedulers end a job so, and kill it some time later.
    private void OnTermination(PosixSignalContext context)
    {
        if (Requested || IsServer)
        {
            return;
        }

        context.Cancel = true;
        Console.Error.WriteLine("asked to end: stopping after this step");
        _source.Cancel();
    }

    private void OnCancel(object? sender, ConsoleCancelEventArgs e)
    {
        if (Requested)
        {
            return;
        }

        e.Cancel = true;
        if (EndPart is { } part)
        {
            e.Cancel = part();
            return;
        }

        Console.Error.WriteLine(Notice);
        _source.Cancel();
    }
}
