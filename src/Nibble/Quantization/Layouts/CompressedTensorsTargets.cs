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
            JsonConfig group = groups.SectionNamed(property.Name)!;
            IReadOnlyList<string> targets = group.Has("weights") ? group.GetStrings("targets") : [];
            if (targets.Any(target => Matches(group, target, module)))
            {
                return Weights(group);
            }

            byClass ??= targets.Contains("Linear") ? group : null;
        }

        if (byClass is null)
        {
            section.Refuse("config_groups", $"no group has '{module}' among its targets");
        }

        return Weights(byClass);
    }

    // Activations that are rounded, too, would make other numbers than those that the model was measured with.
    private static JsonConfig Weights(JsonConfig group)
    {
        foreach (string key in new[] { "input_activations", "output_activations" }.Where(group.Has))
        {
            group.Refuse(key, "only weights are read quantized, and this model rounds activations as well");
        }

        return group.Section("weights")!;
    }

    // The pattern comes from a file: it may be none, and it may not take longer than a moment.
    private static bool Matches(JsonConfig group, string target, string module)
    {
        if (!target.StartsWith("re:", StringComparison.Ordinal))
        {
            return target == module;
        }

        try
        {
            return Regex.IsMatch(module, "^(?:" + target[3..] + ")", RegexOptions.CultureInvariant, MostTime);
        }
        catch (Exception error) when (error is ArgumentException or RegexMatchTimeoutException)
        {
            group.Refuse("targets", $"the pattern '{target}' cannot be used: {error.Message}");
            return false;
        }
    }
}
