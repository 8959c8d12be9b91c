using System.CommandLine;
using Nibble.IO;
using YamlDotNet.RepresentationModel;

namespace Nibble.Cli;

/// <summary>
/// <c>--config FILE</c> and <c>--set key=value</c>: both become ordinary options in front of the parser, so they are checked as
/// options are. Flags win over --set, --set over the file.
/// </summary>
internal static class ConfigFile
{
    public static string[] Expand(string[] arguments, RootCommand root)
    {
        List<string> rest = [];
        List<(string Key, string? Value)> settings = [];
        List<(string Key, string? Value)> fromFile = [];
        for (int i = 0; i < arguments.Length; i++)
        {
            if (arguments[i] is "--config" or "--set" && i + 1 < arguments.Length)
            {
                (arguments[i] == "--set" ? settings : fromFile).AddRange(
                    arguments[i] == "--set" ? [Split(arguments[i + 1])] : Read(arguments[i + 1]));
                i++;
            }
            else
            {
                rest.Add(arguments[i]);
            }
        }

        HashSet<string> given = [.. Given(rest, root)];
        foreach ((string key, string? value) in settings.AsEnumerable().Reverse().Concat(fromFile))
        {
            string flag = "--" + key.Replace('_', '-');
            if (given.Add(flag))
            {
                rest.Add(value is null ? flag : $"{flag}={value}");
            }
        }

        return [.. rest];
    }

    // The long spelling of every option on the command line, so that "-o x" wins over "output: y".
    private static IEnumerable<string> Given(List<string> arguments, RootCommand root)
    {
        Command? verb = arguments.Count == 0 ? null : root.Subcommands.FirstOrDefault(command => command.Name == arguments[0]);
        foreach (string argument in arguments.Where(argument => argument.StartsWith('-')))
        {
            string name = argument.Split('=', 2)[0];
            yield return verb?.Options.FirstOrDefault(option => option.Aliases.Contains(name))?.Name ?? name;
        }
    }

    private static (string Key, string? Value) Split(string setting)
    {
        string[] parts = setting.Split('=', 2);
        if (parts.Length != 2 || parts[0].Length == 0)
        {
            Throw.Usage($"--set {setting}: expected key=value", remedy: "for example --set bits=4");
        }

        return (parts[0], parts[1]);
    }

    private static List<(string Key, string? Value)> Read(string path)
    {
        if (!File.Exists(path))
        {
            Throw.NotFound($"--config {path}: no such file");
        }

        YamlStream yaml = [];
        try
        {
            using StreamReader reader = new(path);
            yaml.Load(reader);
        }
        catch (YamlDotNet.Core.YamlException error)
        {
            Throw.BadInput($"--config {path}: not YAML (line {error.Start.Line})", error.Message, inner: error);
        }

        if (yaml.Documents.Count == 0)
        {
            return [];
        }

        YamlMappingNode map = yaml.Documents[0].RootNode as YamlMappingNode ?? throw new NibbleException(
            ErrorKind.BadInput, $"--config {path}: expected a mapping of option names to values", remedy: "for example 'bits: 4' on a line");
        return [.. map.Children.Select(pair => (pair.Key.ToString(), Scalar(path, pair.Key, pair.Value)))];
    }

    private static string? Scalar(string path, YamlNode key, YamlNode value)
    {
        switch (value)
        {
            case YamlScalarNode scalar:
                return scalar.Value;
            case YamlSequenceNode sequence when sequence.Children.All(child => child is YamlScalarNode):
                return string.Join(',', sequence.Children.Select(child => ((YamlScalarNode)child).Value));
            default:
                Throw.BadInput($"--config {path}: '{key}' (line {value.Start.Line}) must be a value or a list of values");
                return null;
        }
    }
}
