using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.RegularExpressions;

namespace Nibble.Cli;

/// <summary>What is wrong with a command line, in words for people: the option by its name, what was expected, and the nearest name that exists.</summary>
internal static partial class UsageErrors
{
    // A text may be empty; a file, a folder, a name or a number may not.
    private static readonly HashSet<string> Texts = ["--prompt", "--system", "--stop", "--prompt-template"];

    /// <summary>One message for each mistake; none for a command line that can be run.</summary>
    public static IReadOnlyList<string> Of(ParseResult parsed)
    {
        // "Required command was not provided" says nothing beside a word that is no command.
        ParseError[] errors = [.. parsed.Errors.Where(error => parsed.Errors.Count == 1 || !error.Message.StartsWith("Required command", StringComparison.Ordinal))];
        List<string> messages = [.. errors.Where((_, i) => !IsConsequence(errors, i, parsed)).Select(error => Message(error, parsed))];
        return messages.Count > 0 ? messages : [.. Empty(parsed)];
    }

    // The words behind a misspelled option are unknown because it is, and so are words and options behind a misspelled command.
    private static bool IsConsequence(ParseError[] errors, int i, ParseResult parsed) =>
        Word(errors[i]) is { } word && i > 0 && Word(errors[i - 1]) is not null && (!word.StartsWith('-') || (parsed.CommandResult.Command is RootCommand && Word(errors[0]) is [not '-', ..]));

    private static string? Word(ParseError error) => UnknownWord().Match(error.Message) is { Success: true } match ? match.Groups[1].Value : null;

    private static string Message(ParseError error, ParseResult parsed)
    {
        if (UnknownWord().Match(error.Message) is { Success: true } unknown)
        {
            return Unknown(unknown.Groups[1].Value, parsed);
        }

        if (WrongType().Match(error.Message) is { Success: true } wrong)
        {
            return $"{Name(error, wrong.Groups[2].Value)}: '{wrong.Groups[1].Value}' is no {Kind(wrong.Groups[3].Value)}";
        }

        return NotAmong().Match(error.Message) is { Success: true } among
            ? $"{Name(error, "the value")}: '{among.Groups[1].Value}' is none of {string.Join(", ", Quoted().Matches(among.Groups[2].Value).Select(match => match.Groups[1].Value))}"
            : error.Message;
    }

    private static string Unknown(string word, ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        bool isCommand = command is RootCommand && !word.StartsWith('-');
        IEnumerable<string> known = isCommand ? command.Subcommands.Select(verb => verb.Name) : command.Options.Select(option => option.Name);
        string given = word.Split('=', 2)[0];
        string? nearest = known.Select(name => (Name: name, Distance: Distance(given, name))).Where(pair => pair.Distance <= Math.Max(1, given.Length / 3))
            .OrderBy(pair => pair.Distance).Select(pair => pair.Name).FirstOrDefault();
        string hint = nearest is null || (!isCommand && !word.StartsWith('-')) ? string.Empty : $"; did you mean '{nearest}'?";
        return $"'{word}' is no {(isCommand ? "command" : $"argument of {(command is RootCommand ? "nibble" : command.Name)}")}{hint}";
    }

    private static IEnumerable<string> Empty(ParseResult parsed) => parsed.CommandResult.Children
        .Where(child => child.Tokens.Any(token => token.Value.Length == 0))
        .Select(child => child switch { OptionResult option => option.Option.Name, ArgumentResult argument => argument.Argument.Name, _ => string.Empty })
        .Where(name => name.Length > 0 && !Texts.Contains(name))
        .Select(name => $"{name}: the value is empty (a variable that is not set?)");

    private static string Name(ParseError error, string otherwise) => error.SymbolResult switch
    {
        OptionResult option => option.Option.Name,
        ArgumentResult { Parent: OptionResult option } => option.Option.Name,
        ArgumentResult argument => argument.Argument.Name,
        _ => otherwise,
    };

    private static string Kind(string type) => type switch
    {
        _ when type.Contains("Int32", StringComparison.Ordinal) => "whole number up to 2,147,483,647",
        _ when type.Contains("Int64", StringComparison.Ordinal) => "whole number",
        _ when type.Contains("Double", StringComparison.Ordinal) || type.Contains("Single", StringComparison.Ordinal) => "number",
        _ when type.Contains("Boolean", StringComparison.Ordinal) => "true or false",
        _ => type,
    };

    // Levenshtein's distance.
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int corner = row[0]++;
            for (int j = 1; j <= b.Length; j++)
            {
                (corner, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, corner + (a[i - 1] == b[j - 1] ? 0 : 1)));
            }
        }

        return row[b.Length];
    }

    [GeneratedRegex("^Unrecognized command or argument '(.*)'", RegexOptions.Singleline)]
    private static partial Regex UnknownWord();

    [GeneratedRegex("^Cannot parse argument '(.*)' for (?:option|command) '(.*)' as expected type '?(.*?)'?\\.?$", RegexOptions.Singleline)]
    private static partial Regex WrongType();

    [GeneratedRegex("^Argument '(.*)' not recognized\\.(.*)$", RegexOptions.Singleline)]
    private static partial Regex NotAmong();

    [GeneratedRegex("'([^']*)'")]
    private static partial Regex Quoted();
}
