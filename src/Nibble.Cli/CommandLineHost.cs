using System.CommandLine;
using System.CommandLine.Parsing;
using Nibble.IO;

namespace Nibble.Cli;

/// <summary>Parses the command line, runs one verb and turns every failure into one clear message and the right exit code.</summary>
internal static class CommandLineHost
{
    public static int Run(string[] arguments)
    {
        bool verbose = arguments.Contains("--verbose");
        using Interruption interruption = new();
        try
        {
            RootCommand root = Build(interruption.Token);
            ParseResult parsed = root.Parse(ConfigFile.Expand(arguments, root));
            if (parsed.Errors.Count > 0)
            {
                return ReportUsage(parsed);
            }

            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (Exception error)
        {
            return Failure.Report(error, verbose, interruption);
        }
    }

    /// <summary>The root command with every verb of <see cref="Verbs"/>.</summary>
    internal static RootCommand Build(CancellationToken cancellation)
    {
        RootCommand root = new("Nibble quantizes, fine-tunes, runs and measures transformer language models.");
        root.Options.Add(CommonOptions.Verbose);
        foreach (IVerb verb in Verbs.All)
        {
            Command command = verb.Create(cancellation);
            command.Options.Add(CommonOptions.Config);
            command.Options.Add(CommonOptions.Set);
            root.Subcommands.Add(command);
        }

        CommonOptions.Verbose.Recursive = true;
        return root;
    }

    private static int ReportUsage(ParseResult parsed)
    {
        foreach (ParseError error in parsed.Errors)
        {
            Console.Error.WriteLine(error.Message);
        }

        string verb = parsed.CommandResult.Command is RootCommand ? string.Empty : parsed.CommandResult.Command.Name + " ";
        Console.Error.WriteLine($"run 'nibble {verb}--help' for the arguments");
        return (int)ErrorKind.Usage;
    }
}
