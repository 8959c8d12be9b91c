using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Nibble.Cli;

/// <summary>
/// The help page of a command: that of System.CommandLine, with short names for values (a list of choices as wide as the screen would
/// leave no room for what they mean) and with commands to copy below.
/// </summary>
internal sealed class HelpPage(HelpAction page) : SynchronousCommandLineAction
{
    private const int WidestChoices = 24;

    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <summary>Puts the page in the place of the usual one.</summary>
    public static void Install(RootCommand root)
    {
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpPage((HelpAction)help.Action!);
        foreach (Option option in root.Subcommands.SelectMany(command => command.Options))
        {
            option.HelpName ??= ValueName(option);
        }
    }

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        int code = page.Invoke(parseResult);
        TextWriter output = parseResult.InvocationConfiguration.Output;
        if (Examples.Of(parseResult.CommandResult.Command.Name) is { Count: > 0 } examples)
        {
            output.WriteLine("Examples:");
            foreach (string example in examples)
            {
                output.WriteLine("  " + example);
            }

            output.WriteLine();
        }

        return code;
    }

    private static string? ValueName(Option option)
    {
        string[] choices = [.. option.GetCompletions(System.CommandLine.Completions.CompletionContext.Empty).Select(item => item.Label)];
        if (option.Arity.MaximumNumberOfValues == 0 || (choices.Length > 0 && string.Join('|', choices).Length <= WidestChoices))
        {
            return null;
        }

        Type type = option.ValueType.IsArray ? option.ValueType.GetElementType()! : Nullable.GetUnderlyingType(option.ValueType) ?? option.ValueType;
        return type == typeof(int) || type == typeof(long) || type == typeof(double) ? "n" : option.Name switch
        {
            "--output" or "--adapter" or "--baseline" or "--save-baseline" or "--remainder" => "folder",
            "--config" or "--plan" or "--save-plan" or "--chat-template" or "--peer-model" => "file",
            "--set" => "key=value",
            "--prompt" or "--system" or "--stop" or "--prompt-template" => "text",
            _ when choices.Length > 0 || option.Name.Contains("method", StringComparison.Ordinal) || option.Name == "--layout" => "name",
            _ => option.Name[(option.Name.LastIndexOf('-') + 1)..],
        };
    }
}
