using System.Globalization;
using System.Text.Json;

namespace Nibble.Runs;

/// <summary>What lists call a run's method: two quantizations of one name are told apart by their bits and groups.</summary>
public static class RunName
{
    /// <summary>The label that its study gave it; else the method, with bits and group where it has a choice of them.</summary>
    public static string Of(RunRecord run)
    {
        ArgumentNullException.ThrowIfNull(run);
        try
        {
            using JsonDocument document = JsonDocument.Parse(run.Configuration);
            return Find(document.RootElement, "label", JsonValueKind.String)?.GetString() ?? run.Method + Settings(document.RootElement);
        }
        catch (JsonException)
        {
            return run.Method;
        }
    }

    private static string Settings(JsonElement configuration)
    {
        JsonElement? settings = Find(configuration, "settings", JsonValueKind.Object);
        // A codebook has blocks and no choice of bits; only methods of a choice have groups.
        string group = Find(settings, "group_size", JsonValueKind.Number)?.GetDouble() switch
        {
            null => string.Empty,
            <= 0 => ", whole rows",
            double size => string.Create(CultureInfo.InvariantCulture, $", group {size:0}"),
        };
        string bits = group.Length > 0 && Find(configuration, "bits", JsonValueKind.Number)?.GetDouble() is { } count ? string.Create(CultureInfo.InvariantCulture, $" {count:0.##} bit") : string.Empty;
        return bits + (bits.Length > 0 ? group : string.Empty) + (Find(settings, "double_quant", JsonValueKind.True) is null ? string.Empty : " + double quantization");
    }

    private static JsonElement? Find(JsonElement? parent, string name, JsonValueKind kind) =>
        parent is { ValueKind: JsonValueKind.Object } element && element.TryGetProperty(name, out JsonElement value) && value.ValueKind == kind ? value : null;
}
