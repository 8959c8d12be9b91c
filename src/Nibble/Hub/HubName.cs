using System.Text.RegularExpressions;
using Nibble.IO;

namespace Nibble.Hub;

/// <summary>A model on the Hub: <c>ORG/NAME</c>, with <c>@REVISION</c> (a branch, tag or commit) and <c>:FILE</c> (one file, or a part of its name as <c>Q4_K_M</c>) behind it.</summary>
/// <param name="Repository"><c>ORG/NAME</c>; old models have a name alone.</param>
/// <param name="Revision">Branch, tag or commit.</param>
/// <param name="File">One file, or a part of its name; null for the whole model.</param>
public sealed partial record HubName(string Repository, string Revision = HubName.Main, string? File = null)
{
    /// <summary>The branch that is meant where none is named.</summary>
    public const string Main = "main";

    private const int LongestName = 96;

    /// <summary>Reads a name, also as <c>hf://ORG/NAME</c> or as the address of its page at <paramref name="endpoint"/>.</summary>
    /// <exception cref="NibbleException">It is no name of a model.</exception>
    public static HubName Parse(string text, Uri? endpoint = null)
    {
        string name = text;
        foreach (string start in new[] { endpoint?.AbsoluteUri ?? HubSettings.DefaultEndpoint, HubSettings.DefaultEndpoint, "hf://" })
        {
            name = name.StartsWith(start, StringComparison.OrdinalIgnoreCase) ? name[start.Length..].Trim('/') : name;
        }

        return TryParse(name) ?? throw new NibbleException(
            ErrorKind.Usage, $"'{text}' is no name of a model on the Hub", "names are ORG/NAME, with @REVISION and :FILE behind them", "copy the name at the top of the model's page, for example Qwen/Qwen3-0.6B");
    }

    /// <summary>Reads a name; null if it is none.</summary>
    public static HubName? TryParse(string text)
    {
        Match match = Form().Match(text);
        if (!match.Success)
        {
            return null;
        }

        string repository = match.Groups["repository"].Value, revision = match.Groups["revision"].Success ? match.Groups["revision"].Value : Main;
        // The Hub allows neither; "--" stands for "/" in names of the cache's folders. Git has no revision with "..", and the cache makes a path of it.
        return repository.Length > LongestName || repository.Contains("--", StringComparison.Ordinal) || repository.Contains("..", StringComparison.Ordinal) || revision.Contains("..", StringComparison.Ordinal)
            ? null
            : new HubName(repository, revision, match.Groups["file"].Success ? match.Groups["file"].Value : null);
    }

    /// <inheritdoc/>
    public override string ToString() => Repository + (Revision == Main ? string.Empty : "@" + Revision) + (File is null ? string.Empty : ":" + File);

    [GeneratedRegex("^(?<repository>[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?)(@(?<revision>[A-Za-z0-9][A-Za-z0-9_./-]*))?(:(?<file>[^\\\\:*?\"<>|]+))?$")]
    private static partial Regex Form();
}
