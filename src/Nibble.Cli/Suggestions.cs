using System.CommandLine;
using System.Globalization;
using System.Text.RegularExpressions;

namespace Nibble.Cli;

/// <summary>
/// Completes what stands behind <c>--option=</c>. The library's own <c>[suggest:POSITION] LINE</c> knows values of <c>--option value</c> only
/// (and fails at the other form), so the question is asked in that form and the option put back before each answer.
/// </summary>
internal static partial class Suggestions
{
    /// <summary>The exit code, or null where the command line is no such question.</summary>
    public static int? Answer(string[] arguments, RootCommand root)
    {
        if (arguments is not [var question, var line] || !Question().IsMatch(question)
            || !int.TryParse(question["[suggest:".Length..^1], NumberStyles.None, CultureInfo.InvariantCulture, out int at)
            || OptionWithValue().Match(line[..Math.Min(at, line.Length)]) is not { Success: true } found)
        {
            return null;
        }

        string option = found.Groups[1].Value, asked = line[..found.Index] + option + ' ' + found.Groups[2].Value;
        using StringWriter answers = new();
        int code = root.Parse([$"[suggest:{asked.Length}]", asked]).Invoke(new InvocationConfiguration { Output = answers, EnableDefaultExceptionHandler = false });
        foreach (string answer in answers.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Where(answer => answer[0] is not ('-' or '/')))
        {
            Console.Out.WriteLine($"{option}={answer}");
        }

        return code;
    }

    [GeneratedRegex(@"^\[suggest:[0-9]+\]$")]
    private static partial Regex Question();

    [GeneratedRegex(@"(?<=^|\s)(--[a-z0-9-]+)=(\S*)$")]
    private static partial Regex OptionWithValue();
}
