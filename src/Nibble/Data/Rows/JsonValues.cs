using System.Text.Json;

namespace Nibble.Data.Rows;

/// <summary>JSON as plain values: null, bool, long, double, string, lists, and dictionaries in the order of the file.</summary>
internal static class JsonValues
{
    /// <summary>Converts a value.</summary>
    public static object? Of(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.String => element.GetString(),
        JsonValueKind.Number => element.TryGetInt64(out long whole) ? (object)whole : element.GetDouble(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Array => element.EnumerateArray().Select(Of).ToList(),
        JsonValueKind.Object => Map(element),
        _ => null,
    };

    /// <summary>Converts an object.</summary>
    public static OrderedDictionary<string, object?> Map(JsonElement element)
    {
        OrderedDictionary<string, object?> map = new(StringComparer.Ordinal);
        foreach (JsonProperty property in element.EnumerateObject())
        {
            map[property.Name] = Of(property.Value);
        }

        return map;
    }
}
