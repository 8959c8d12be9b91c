namespace Nibble.Cli;

/// <summary>Ctrl-C: the first asks the work to finish its step, save and leave; the second stops at once.</summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();

    public Interruption() => Console.CancelKeyPress += OnCancel;

    /// <summary>Asked before the whole work is: true if a Ctrl-C only ended a part of it. Null where there are no parts.</summary>
    public static Func<bool>? EndPart { get; set; }

    /// <summary>What a first Ctrl-C says.</summary>
    public static string Notice { get; set; } = "stopping after this step (Ctrl-C again stops at once)";

    public CancellationToken Token => _source.Token;

    public bool Requested => _source.IsCancellationRequested;

    public void Dispose()
    {
        Console.CancelKeyPress -= OnCancel;
        _source.Dispose();
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
