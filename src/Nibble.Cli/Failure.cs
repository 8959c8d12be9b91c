using System.Data.Common;
using Nibble.IO;
using Nibble.Runs;

namespace Nibble.Cli;

/// <summary>Turns exceptions into messages for people and exit codes for scripts.</summary>
internal static class Failure
{
    public static int Report(Exception error, bool verbose, Interruption interruption)
    {
        (ErrorKind kind, string message) = error switch
        {
            NibbleException known => (known.Kind, known.Message),
            WorkInterruptedException kept => (ErrorKind.Interrupted, "interrupted\n" + kept.Message),
            OperationCanceledException when interruption.Requested => (ErrorKind.Interrupted, "interrupted"),
            OutOfMemoryException => (ErrorKind.Resource, "out of memory\n" + error.Message + "\nuse a smaller model, batch or context"),
            UnauthorizedAccessException => (ErrorKind.Resource, "no permission\n" + error.Message + "\ncheck the owner and mode of that path"),
            FileNotFoundException or DirectoryNotFoundException => (ErrorKind.NotFound, error.Message),
            DbException => (ErrorKind.Resource, $"the run store could not be read or written\n{error.Message}\nend what else uses it, or name another file with {RunStore.EnvironmentVariable}"),
            IOException => (ErrorKind.Resource, "a file could not be read or written\n" + error.Message),
            _ => (ErrorKind.Failed, $"unexpected {error.GetType().Name}: {error.Message}\nthis is a defect of Nibble: run again with --verbose and report it"),
        };
        Console.Error.WriteLine("error: " + message);
        if (verbose)
        {
            Console.Error.WriteLine(error);
        }

        return (int)kind;
    }
}
