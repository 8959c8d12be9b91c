using System.Globalization;
using System.Text.RegularExpressions;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// Other settings for some matrices: <c>PATTERN=METHOD[:key=value,…]</c>, for example <c>*.mlp.*=rtn:bits=8,group_size=32</c>, or
/// <c>*.c_attn=none</c> to keep them dense. The pattern is matched against whole module paths; <c>*</c> stands for any text, <c>?</c> for
/// one character. The last override that matches wins.
/// </summary>
public sealed record PlanOverride
{
    /// <summary>The word for a matrix that stays dense.</summary>
    public const string Dense = "none";

    private static readonly string[] Keys =
        ["bits", "group_size", "symmetric", "block_size", "double_quant", "threshold", "axis", "act_order", "static_groups", "mse", "damping", "compensate", "scale_dtype", "repair_rank", "repair_iterations", "repair_weighted", "activation_bits"];

    private readonly Regex _regex;

    /// <summary>Settings for the module paths that match <paramref name="pattern"/>; null keeps them dense.</summary>
    public PlanOverride(string pattern, QuantizationSettings? settings)
    {
        Pattern = pattern;
        Settings = settings;
        string expression = Regex.Escape(pattern).Replace("\\*", ".*", StringComparison.Ordinal).Replace("\\?", ".", StringComparison.Ordinal);
        _regex = new Regex($"^{expression}$", RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
    }

    /// <summary>The pattern.</summary>
    public string Pattern { get; }

    /// <summary>The settings; null keeps the matrices dense.</summary>
    public QuantizationSettings? Settings { get; }

    /// <summary>Why, for the printed plan; null: the override itself is the reason.</summary>
    public string? Reason { get; init; }

    /// <summary>Reads the text form.</summary>
    public static PlanOverride Parse(string text)
    {
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            Refuse(text, "expected PATTERN=METHOD[:key=value,…]");
        }

        string pattern = text[..equals];
        string[] parts = text[(equals + 1)..].Split(':', 2);
        if (parts[0] == Dense)
        {
            return new PlanOverride(pattern, null);
        }

        QuantizationSettings settings = new() { Method = Registry.Method(parts[0]).Name };
        foreach (string item in parts.Length == 1 ? [] : parts[1].Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] pair = item.Split('=', 2);
            settings = pair.Length == 2 ? Set(text, settings, pair[0].Replace('-', '_'), pair[1]) : Set(text, settings, pair[0].Replace('-', '_'), "true");
        }

        return new PlanOverride(pattern, settings);
    }

    /// <summary>True if the override speaks about this module.</summary>
    public bool Matches(string path) => _regex.IsMatch(path);

    private static QuantizationSettings Set(string text, QuantizationSettings settings, string key, string value) => key switch
    {
        "bits" => settings with { Bits = Int(text, value) },
        "group_size" => settings with { GroupSize = Int(text, value) },
        "symmetric" => settings with { Symmetric = Bool(text, value) },
        "asymmetric" => settings with { Symmetric = !Bool(text, value) },
        "block_size" => settings with { BlockSize = Int(text, value) },
        "double_quant" => settings with { DoubleQuant = Bool(text, value) },
        "threshold" => settings with { Threshold = Float(text, value) },
        "axis" => settings with { Axis = Int(text, value) },
        "act_order" => settings with { ActOrder = Bool(text, value) },
        "static_groups" => settings with { StaticGroups = Bool(text, value) },
        "mse" => settings with { Mse = Bool(text, value) },
        "damping" => settings with { Damping = Float(text, value) },
        "compensate" => settings with { Compensate = Bool(text, value) },
        "scale_dtype" => settings with { ScaleDType = Enum.TryParse(value, ignoreCase: true, out DType dtype) ? dtype : Refuse<DType>(text, value) },
        "repair_rank" => settings with { RepairRank = Int(text, value) },
        "repair_iterations" => settings with { RepairIterations = Int(text, value) },
        "repair_weighted" => settings with { RepairWeighted = Bool(text, value) },
        "activation_bits" => settings with { ActivationBits = Int(text, value) },
        _ => Refuse<QuantizationSettings>(text, key),
    };

    private static int Int(string text, string value) =>
        int.TryParse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) ? number : Refuse<int>(text, value);

    private static float Float(string text, string value) =>
        float.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out float number) ? number : Refuse<float>(text, value);

    private static bool Bool(string text, string value) => bool.TryParse(value, out bool flag) ? flag : Refuse<bool>(text, value);

    private static T Refuse<T>(string text, string part)
    {
        Refuse(text, $"'{part}' is not understood; keys are {string.Join(", ", Keys)}");
        return default!;
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private static void Refuse(string text, string why) =>
        Throw.Usage($"--override {text}: not understood", why, "for example --override '*.mlp.*=rtn:bits=8,group_size=32' or '*.c_attn=none'");
}
