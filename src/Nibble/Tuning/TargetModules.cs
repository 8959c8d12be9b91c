using System.Globalization;
using System.Numerics;
using System.Text.RegularExpressions;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Tuning;

/// <summary>One layer that gets an adapter.</summary>
/// <param name="Linear">The layer.</param>
/// <param name="Rank">Its rank after the patterns.</param>
/// <param name="Alpha">Its alpha after the patterns.</param>
public sealed record LoraTarget(LinearSpec Linear, int Rank, double Alpha)
{
    /// <summary>Numbers in A <c>[rank, in]</c> and B <c>[out, rank]</c>.</summary>
    public long ParameterCount => Rank * ((long)Linear.In + Linear.Out);
}

/// <summary>Which layers <c>target_modules</c> means, by PEFT's rules.</summary>
public static class TargetModules
{
    /// <summary>All linear layers of the blocks.</summary>
    public const string AllLinear = "all-linear";

    private static readonly TimeSpan MostRegexTime = TimeSpan.FromSeconds(1);

    /// <summary>The layers that get adapters, in the model's order.</summary>
    /// <exception cref="NibbleException">A name matches nothing, or a layer that can't have an adapter.</exception>
    public static IReadOnlyList<LoraTarget> Find(IReadOnlyList<LinearSpec> linears, LoraSettings settings)
    {
        IReadOnlyList<LoraTarget> found = Matching(linears, settings);
        IReadOnlyList<string> names = Names(linears, settings);
        string[] unmatched = names is [AllLinear] || settings.TargetsAreRegex ? [] : [.. names.Where(name => !linears.Any(spec => EndsWith(spec.Path, name)))];
        if (found.Count == 0 || unmatched.Length > 0)
        {
            string[] known = [.. linears.Where(spec => spec.Role == LinearRole.Block).Select(spec => LastName(spec.Path)).Distinct()];
            string[] missing = unmatched.Length > 0 ? unmatched : [.. names];
            string near = string.Join(", ", missing.Select(name => LastName(name)).Select(name => known.MinBy(other => Distance(name, other))).Distinct());
            Throw.Usage(
                $"target modules {string.Join(", ", missing)} match no linear layer",
                $"this model has {string.Join(", ", known)}{(settings.TargetsAreRegex ? string.Empty : $"; nearest: {near}")}",
                "give names from this list, a regular expression over whole paths, or all-linear");
        }

        return found;
    }

    /// <summary>The same for an adapter that exists: names may match nothing, as in PEFT. If it has tensors for them, these have no place in this base, and tell more than the name.</summary>
    internal static IReadOnlyList<LoraTarget> Matching(IReadOnlyList<LinearSpec> linears, LoraSettings settings)
    {
        IReadOnlyList<string> names = Names(linears, settings);
        bool all = names is [AllLinear];
        bool Wanted(LinearSpec spec) =>
            (all ? spec.Role == LinearRole.Block : Matches(spec.Path, names, settings.TargetsAreRegex))
            && !Matches(spec.Path, settings.ExcludeModules, settings.ExcludesAreRegex)
            && (settings.Layers.Count == 0 || settings.Layers.Contains(LayerOf(spec.Path)));
        LinearSpec[] found = [.. linears.Where(Wanted)];
        if (found.FirstOrDefault(spec => spec.Role != LinearRole.Block) is { } outside)
        {
            Throw.Usage(
                $"target module {outside.Path} is no layer of a block", "adapters stand beside the linear layers of blocks", "leave it out of --target-modules");
        }

        return [.. found.Select(spec => new LoraTarget(spec, Pattern(settings.RankPattern, spec.Path, settings.Rank), Pattern(settings.AlphaPattern, spec.Path, settings.Alpha)))];
    }

    /// <summary>Refuses patterns that change no target: PEFT ignores them, so adapters that have some still load.</summary>
    internal static void RequirePatternsMatch(LoraSettings settings, IReadOnlyList<LoraTarget> targets)
    {
        RequireMatches("rank", settings.RankPattern.Keys, targets);
        RequireMatches("alpha", settings.AlphaPattern.Keys, targets);
    }

    /// <summary>What PEFT targets when nothing is said: c_attn of GPT-2, q_proj and v_proj of the LLaMA family.</summary>
    public static IReadOnlyList<string> Default(IReadOnlyList<LinearSpec> linears) =>
        linears.Any(spec => EndsWith(spec.Path, "c_attn")) ? ["c_attn"] : ["q_proj", "v_proj"];

    /// <summary>Reads a value of <c>--target-modules</c>: names separated by commas, or a regular expression (anything with a sign that no module name has).</summary>
    public static (IReadOnlyList<string> Names, bool IsRegex) Parse(string? text)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            return ([], false);
        }

        return text.AsSpan().IndexOfAny("*+?()[]{}|^$\\") >= 0
            ? ([text], true)
            : (text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries), false);
    }

    /// <summary>
    /// Reads values of <c>--rank-pattern</c> and <c>--alpha-pattern</c>: <c>PATTERN=NUMBER</c>, several separated by commas. A comma inside of a
    /// pattern stays, because what precedes it has no number.
    /// </summary>
    /// <exception cref="NibbleException">A part has no number, or one that is not positive.</exception>
    public static IReadOnlyDictionary<string, T> ParsePatterns<T>(string option, IEnumerable<string> values)
        where T : struct, INumber<T>
    {
        Dictionary<string, T> patterns = [];
        foreach (string value in values)
        {
            string pattern = string.Empty;
            foreach (string part in value.Split(','))
            {
                pattern += pattern.Length > 0 ? "," + part : part.TrimStart();
                int equals = pattern.LastIndexOf('=');
                if (equals > 0 && T.TryParse(pattern.AsSpan(equals + 1), CultureInfo.InvariantCulture, out T number) && T.IsFinite(number) && T.IsPositive(number) && !T.IsZero(number))
                {
                    patterns[pattern[..equals].TrimEnd()] = number;
                    pattern = string.Empty;
                }
            }

            if (pattern.Length > 0)
            {
                Throw.Usage($"{option} {value}: '{pattern}' is no PATTERN=NUMBER", "a pattern is a module's name or a regular expression for the end of its path, the number is positive", $"for example {option} c_attn=16,mlp.c_proj=4");
            }
        }

        return patterns;
    }

    /// <summary>True if a path matches one of the names, or the regular expression.</summary>
    public static bool Matches(string path, IReadOnlyList<string> names, bool regex) => regex ? Full(names[0], path) : names.Any(name => EndsWith(path, name));

    /// <summary>True if a path is the name or ends with it after a dot.</summary>
    public static bool EndsWith(string path, string name) => path == name || path.EndsWith("." + name, StringComparison.Ordinal);

    /// <summary>Letters to insert, delete or replace (Levenshtein 1966).</summary>
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, 1 + Math.Min(row[j], row[j - 1]));
            }
        }

        return row[^1];
    }

    private static string LastName(string path) => path[(path.LastIndexOf('.') + 1)..];

    /// <summary>The number in the first <c>.name.number.</c> of a path, −1 if there is none.</summary>
    private static int LayerOf(string path) =>
        path.Split('.').Skip(1).SkipLast(1).Select(part => int.TryParse(part, out int number) ? number : -1).FirstOrDefault(number => number >= 0, -1);

    private static T Pattern<T>(IReadOnlyDictionary<string, T> patterns, string path, T otherwise)
    {
        foreach ((string key, T value) in patterns)
        {
            if (EndsLike(path, key))
            {
                return value;
            }
        }

        return otherwise;
    }

    private static IReadOnlyList<string> Names(IReadOnlyList<LinearSpec> linears, LoraSettings settings) =>
        settings.TargetModules.Count > 0 ? settings.TargetModules : Default(linears);

    private static void RequireMatches(string what, IEnumerable<string> patterns, IReadOnlyList<LoraTarget> targets)
    {
        string[] unmatched = [.. patterns.Where(pattern => !targets.Any(target => EndsLike(target.Linear.Path, pattern)))];
        if (unmatched.Length > 0)
        {
            Throw.Usage(
                $"the {what} pattern {string.Join(", ", unmatched)} matches no layer that gets an adapter",
                $"these do: {string.Join(", ", targets.Select(target => LastName(target.Linear.Path)).Distinct())}, for example {targets[0].Linear.Path}",
                $"give names or regular expressions for the end of their paths, or leave the {what} pattern out");
        }
    }

    private static bool EndsLike(string path, string pattern) => Full($"(.*\\.)?({pattern})", path);

    private static bool Full(string pattern, string path)
    {
        try
        {
            return Regex.IsMatch(path, $"^(?:{pattern})$", RegexOptions.CultureInvariant, MostRegexTime);
        }
        catch (Exception error) when (error is ArgumentException or RegexMatchTimeoutException)
        {
            Throw.Usage($"'{pattern}' can't be used as a regular expression over module paths", error.Message, "give module names separated by commas instead");
            return false;
        }
    }
}
