using System.Globalization;
using Nibble.IO;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Nibble.Runs.Studies;

/// <summary>A YAML mapping that is read strictly: every key is asked for by name, and keys that nobody asked for are refused with their line.</summary>
internal sealed class YamlMap
{
    private readonly string _file;
    private readonly string _place;
    private readonly YamlMappingNode _node;
    private readonly HashSet<string> _asked = [];

    private YamlMap(string file, string place, YamlNode node)
    {
        (_file, _place) = (file, place);
        _node = node as YamlMappingNode ?? throw Refusal(node, $"{place} must be a mapping of keys to values");
    }

    /// <summary>Line of the mapping in its file.</summary>
    public long Line => _node.Start.Line;

    /// <summary>Reads the one document of a file.</summary>
    public static YamlMap Load(string path)
    {
        if (Directory.Exists(path))
        {
            string[] inside = [.. Directory.EnumerateFiles(path, "*.yaml").Order(StringComparer.Ordinal)];
            Throw.BadInput($"{path} is a folder", "a study is one YAML file", inside.Length > 0 ? "give one of " + string.Join(", ", inside) : "docs/compare.md has the form of a study");
        }

        if (!File.Exists(path))
        {
            Throw.NotFound($"study {path} does not exist", remedy: "check the path; studies that come with Nibble are in studies/");
        }

        YamlStream stream = [];
        try
        {
            using StreamReader reader = new(path);
            stream.Load(reader);
        }
        catch (YamlException error)
        {
            Throw.BadInput($"{path}, line {error.Start.Line}: no YAML", error.InnerException?.Message ?? error.Message, "check indentation, colons and quotes near that line", error);
        }

        if (stream.Documents.Count != 1)
        {
            Throw.BadInput($"{path}: expected one YAML document, found {stream.Documents.Count}", remedy: "docs/compare.md has the form of a study");
        }

        return new YamlMap(path, "the study", stream.Documents[0].RootNode);
    }

    /// <summary>A text, or null without the key.</summary>
    public string? Text(string key) => Scalar(key)?.Value;

    /// <summary>A whole number, or null without the key.</summary>
    public int? Int(string key, int least = int.MinValue)
    {
        if (Scalar(key) is not { } node)
        {
            return null;
        }

        if (!int.TryParse(node.Value, NumberStyles.AllowLeadingSign | NumberStyles.AllowThousands, CultureInfo.InvariantCulture, out int value) || value < least)
        {
            throw Refusal(node, $"'{key}' must be a whole number{(least > int.MinValue ? $" of at least {least}" : string.Empty)}, not '{node.Value}'");
        }

        return value;
    }

    /// <summary>A number, or null without the key.</summary>
    public float? Float(string key) => Scalar(key) is not { } node ? null
        : float.TryParse(node.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out float value) ? value
        : throw Refusal(node, $"'{key}' must be a number, not '{node.Value}'");

    /// <summary>True or false, or null without the key.</summary>
    public bool? Bool(string key) => Scalar(key) is not { } node ? null
        : bool.TryParse(node.Value, out bool value) ? value
        : throw Refusal(node, $"'{key}' must be true or false, not '{node.Value}'");

    /// <summary>One of some words, or null without the key.</summary>
    public string? Choice(string key, params IReadOnlyList<string> words) => Scalar(key) is not { } node ? null
        : words.Contains(node.Value) ? node.Value
        : throw Refusal(node, $"'{key}' must be one of {string.Join(", ", words)}, not '{node.Value}'");

    /// <summary>The items of a list; a single value counts as a list of one.</summary>
    public IReadOnlyList<YamlNode> List(string key) => Ask(key) switch
    {
        null => [],
        YamlSequenceNode sequence => [.. sequence.Children],
        { } single => [single],
    };

    /// <summary>A mapping under a key, or null without the key; a key without a value is an empty mapping.</summary>
    public YamlMap? Map(string key) => Ask(key) switch
    {
        null => null,
        YamlScalarNode { Value: "" or null } => new YamlMap(_file, $"'{key}'", new YamlMappingNode()),
        { } node => new YamlMap(_file, $"'{key}'", node),
    };

    /// <summary>An item of a list as a mapping.</summary>
    public YamlMap Item(string key, YamlNode node) => new(_file, $"an item of '{key}'", node);

    /// <summary>All keys with their values, which must be single values.</summary>
    public IReadOnlyList<(string Key, string Value)> Pairs() => [.. _node.Children.Select(item => (item.Key.ToString(), Scalar(item.Key.ToString())!.Value ?? string.Empty))];

    /// <summary>True if the key is there and holds a list.</summary>
    public bool IsList(string key) => Ask(key) is YamlSequenceNode;

    /// <summary>Refuses keys that were never asked for.</summary>
    public void RefuseUnknown()
    {
        foreach ((YamlNode key, YamlNode _) in _node.Children)
        {
            string name = key.ToString();
            if (!_asked.Contains(name))
            {
                throw new NibbleException(
                    ErrorKind.BadInput,
                    $"{_file}, line {key.Start.Line}: unknown key '{name}' in {_place}",
                    $"known are {string.Join(", ", _asked.Order(StringComparer.Ordinal))}",
                    "correct the spelling, or remove the line");
            }
        }
    }

    /// <summary>An error about a node, with its line.</summary>
    public NibbleException Refusal(YamlNode node, string what, string? why = null, string? remedy = null) =>
        new(ErrorKind.BadInput, $"{_file}, line {node.Start.Line}: {what}", why, remedy ?? "see docs/compare.md for the form of a study");

    /// <summary>An error about a file or folder that a node names.</summary>
    public NibbleException Missing(YamlNode node, string what, string why) =>
        new(ErrorKind.NotFound, $"{_file}, line {node.Start.Line}: {what}", why, "paths are relative to the study's file");

    /// <summary>An error about this mapping, with its line.</summary>
    public NibbleException Refusal(string what, string? why = null, string? remedy = null) => Refusal(_node, what, why, remedy);

    private YamlScalarNode? Scalar(string key) => Ask(key) switch
    {
        null => null,
        YamlScalarNode scalar => scalar,
        { } node => throw Refusal(node, $"'{key}' must be a single value"),
    };

    private YamlNode? Ask(string key)
    {
        _asked.Add(key);
        return _node.Children.TryGetValue(new YamlScalarNode(key), out YamlNode? node) ? node : null;
    }
}
