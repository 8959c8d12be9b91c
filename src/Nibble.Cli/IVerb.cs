using System.CommandLine;

namespace Nibble.Cli;

/// <summary>One verb of the command: one file, parsing and rendering only; the work is done by the library.</summary>
internal interface IVerb
{
    /// <summary>Declares arguments and options and sets the action; <paramref name="cancellation"/> is signalled by the first Ctrl-C.</summary>
    Command Create(CancellationToken cancellation);
}
