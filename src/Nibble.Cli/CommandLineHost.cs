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
        if (arguments is ["help", ..])
        {
            // What many other commands take.
            arguments = [.. arguments.Skip(1).Take(1), "--help"];
        }

        using Interruption interruption = new();
        try
        {
            RootCommand root = Build(interruption.Token);
            if (Suggestions.Answer(arguments, root) is { } answered)
            {
                return answered;
            }

            ParseResult parsed = root.Parse(ConfigFile.Expand(arguments, root));
            // Nothing but the name is a question, not a mistake; the exit code still tells a script that nothing was done.
            if (arguments.Length == 0)
            {
                root.Parse("--help").Invoke(new InvocationConfiguration { Output = Console.Error });
                return (int)ErrorKind.Usage;
            }

            if (UsageErrors.Of(parsed) is { Count: > 0 } mistakes)
            {
                return ReportUsage(parsed, mistakes);
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
        HelpPage.Install(root);
        return root;
    }

    private static int ReportUsage(ParseResult parsed, IReadOnlyList<string> mistakes)
    {
        foreach (string mistake in mistakes)
        {
            Console.Error.WriteLine("error: " + mistake);
        }

        bool isRoot = parsed.CommandResult.Command is RootCommand;
        Console.Error.WriteLine(isRoot ? "run 'nibble --help' for the commands" : $"run 'nibble {parsed.CommandResult.Command.Name} --help' for the arguments");
        return (int)ErrorKind.Usage;
    }
}
