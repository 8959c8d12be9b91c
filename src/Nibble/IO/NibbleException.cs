namespace Nibble.IO;

/// <summary>Why an operation failed; the value is the exit code of the command (design: 1 failed … 130 interrupted).</summary>
public enum ErrorKind
{
    /// <summary>The work itself failed.</summary>
    Failed = 1,

    /// <summary>The arguments do not make sense.</summary>
    Usage = 2,

    /// <summary>An input is damaged or of a form that Nibble does not read.</summary>
    BadInput = 3,

    /// <summary>A file, folder, model or tensor does not exist.</summary>
    NotFound = 4,

    /// <summary>Memory, disk space or a permission is missing.</summary>
    Resource = 5,

    /// <summary>The network or a remote service failed.</summary>
    Network = 6,

    /// <summary>The user stopped the work.</summary>
    Interrupted = 130,
}

/// <summary>
/// The one exception that Nibble throws on purpose. <see cref="Exception.Message"/> has up to three lines: what happened,
/// why, and what to do about it.
/// </summary>
public sealed class NibbleException : Exception
{
    /// <summary>Creates an error of <paramref name="kind"/> that says what, why and what to do.</summary>
    public NibbleException(ErrorKind kind, string what, string? why = null, string? remedy = null, Exception? inner = null)
        : base(string.Join('\n', new[] { what, why, remedy }.Where(line => !string.IsNullOrEmpty(line))), inner)
    {
        Kind = kind;
        What = what;
        Why = why;
        Remedy = remedy;
    }

    /// <summary>The class of the error, and the exit code of the command.</summary>
    public ErrorKind Kind { get; }

    /// <summary>What happened: the first line of the message.</summary>
    public string What { get; }

    /// <summary>Why it happened, where that is known.</summary>
    public string? Why { get; }

    /// <summary>What the user can do about it, where there is something.</summary>
    public string? Remedy { get; }
}
