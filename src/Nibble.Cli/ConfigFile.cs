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
        Command? verb = root.Subcommands.FirstOrDefault(command => arguments.Contains(command.Name));
        List<string> rest = [];
        List<Setting> settings = [], fromFile = [];
        for (int i = 0; i < arguments.Length; i++)
        {
            string[] parts = arguments[i].Split('=', 2);
            string? value = parts[0] is not ("--config" or "--set") ? null : parts.Length == 2 ? parts[1] : i + 1 < arguments.Length ? arguments[++i] : null;
            if (value is null)
            {
                rest.Add(arguments[i]);
            }
            else if (parts[0] == "--set")
            {
                settings.Add(Split(value));
            }
            else
            {
                fromFile.AddRange(Read(value));
            }
        }

        HashSet<string> given = [.. Given(rest, verb)];
        foreach (IGrouping<string, Setting> same in settings.GroupBy(setting => setting.Flag).Concat(fromFile.GroupBy(setting => setting.Flag)))
        {
            if (given.Add(same.Key))
            {
                rest.AddRange(Spelled(same.Key, [.. same], verb));
            }
        }

        return [.. rest];
    }

    // The long spelling of every option on the command line, so that "-o x" wins over "output: y".
    private static IEnumerable<string> Given(List<string> arguments, Command? verb)
    {
        foreach (string argument in arguments.Where(argument => argument.StartsWith('-')))
        {
            string name = argument.Split('=', 2)[0];
            yield return verb?.Options.FirstOrDefault(option => option.Aliases.Contains(name))?.Name ?? name;
        }
    }

    // An option that may be repeated gets each item for itself (an override has commas of its own); another one the last setting, a list joined by commas.
    private static IEnumerable<string> Spelled(string flag, IReadOnlyList<Setting> same, Command? verb)
    {
        bool repeats = verb?.Options.FirstOrDefault(option => option.Name == flag)?.Arity.MaximumNumberOfValues > 1;
        return repeats
            ? same.SelectMany(setting => setting.Values).Select(value => $"{flag}={value}")
            : same[^1].Values is { Count: > 0 } values ? [$"{flag}={string.Join(',', values)}"] : [flag];
    }

    private static Setting Split(string setting)
    {
        string[] parts = setting.Split('=', 2);
        if (parts.Length != 2 || parts[0].Length == 0)
        {
            Throw.Usage($"--set {setting}: expected key=value", remedy: "for example --set bits=4");
        }

        return new Setting(parts[0], [parts[1]]);
    }

    private static List<Setting> Read(string path)
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
        return [.. map.Children.Select(pair => new Setting(pair.Key.ToString(), Values(path, pair.Key, pair.Value)))];
    }

    private static List<string> Values(string path, YamlNode key, YamlNode value)
    {
        switch (value)
        {
            case YamlScalarNode scalar:
                return scalar.Value is { } text ? [text] : [];
            case YamlSequenceNode sequence when sequence.Children.All(child => child is YamlScalarNode):
                return [.. sequence.Children.Select(child => ((YamlScalarNode)child).Value ?? string.Empty)];
            default:
                Throw.BadInput($"--config {path}: '{key}' (line {value.Start.Line}) must be a value or a list of values");
                return [];
        }
    }

    private sealed record Setting(string Key, IReadOnlyList<string> Values)
    {
        public string Flag => "--" + Key.Replace('_', '-');
    }
}
