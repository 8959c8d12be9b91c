using System.Text.Json;
using System.Text.RegularExpressions;
using Nibble.Formats;

namespace Nibble.Quantization.Layouts;

/// <summary>Finds the scheme of a module in compressed-tensors' <c>config_groups</c>.</summary>
internal static class CompressedTensorsTargets
{
    private static readonly TimeSpan MostTime = TimeSpan.FromSeconds(1);

    /// <summary>The <c>weights</c> object of the group whose targets name the module, match it (<c>re:</c>), or are its class.</summary>
    public static JsonConfig Find(JsonConfig section, string module)
    {
        JsonConfig groups = section.Section("config_groups") ?? section;
        JsonConfig? byClass = null;
        foreach (JsonProperty property in groups.Element.EnumerateObject().Where(property => property.Value.ValueKind == JsonValueKind.Object))
        {
            JsonConfig group = groups.Section(property.Name)!;
            JsonConfig? weights = group.Section("weights");
            IReadOnlyList<string> targets = weights is null ? [] : group.GetStrings("targets");
            if (targets.Any(target => Matches(target, module)))
            {
                return weights!;
            }

            byClass ??= targets.Contains("Linear") ? weights : null;
        }

        if (byClass is null)
        {
            section.Refuse("config_groups", $"no group has '{module}' among its targets");
        }

        return byClass;
    }

    // The pattern comes from a file: it may not take longer than a moment.
    private static bool Matches(string target, string module) =>
        target.StartsWith("re:", StringComparison.Ordinal) ? Regex.IsMatch(module, "^(?:" + target[3..] + ")", RegexOptions.CultureInvariant, MostTime) : target == module;
}
