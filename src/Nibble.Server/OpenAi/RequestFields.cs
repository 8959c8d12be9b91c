using System.Globalization;
using System.Text.Json;

namespace Nibble.Server.OpenAi;

/// <summary>
/// The fields of a JSON object of a request. Each is asked for by name and type; what nobody asked for is refused at the end, so that
/// nothing that a client wants is passed over in silence. A field that is null counts as absent, as clients write it.
/// </summary>
internal sealed class RequestFields
{
    private readonly Dictionary<string, JsonElement> _left = new(StringComparer.Ordinal);
    private readonly string _path;

    /// <summary>Fields of an object; <paramref name="path"/> stands before their names in messages.</summary>
    public RequestFields(JsonElement element, string path = "")
    {
        _path = path;
        if (element.ValueKind != JsonValueKind.Object)
        {
            throw ApiException.Invalid($"{(path.Length == 0 ? "The body" : $"'{path.TrimEnd('.')}'")} must be a JSON object.", path.Length == 0 ? null : path.TrimEnd('.'), "invalid_type");
        }

        foreach (JsonProperty property in element.EnumerateObject().Where(property => property.Value.ValueKind != JsonValueKind.Null))
        {
            _left.Add(property.Name, property.Value);
        }
    }

    /// <summary>A field as it stands; null if it is absent.</summary>
    public JsonElement? Take(string name) => _left.Remove(name, out JsonElement value) ? value : null;

    public string? Text(string name) => Take(name) is not { } value ? null
        : value.ValueKind == JsonValueKind.String ? value.GetString() : throw Type(name, "a string");

    public bool Flag(string name) => Take(name) is { } value
        && value.ValueKind switch { JsonValueKind.True => true, JsonValueKind.False => false, _ => throw Type(name, "true or false") };

    public double? Number(string name, double least, double most)
    {
        if (Take(name) is not { } value)
        {
            return null;
        }

        double number = value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double parsed) ? parsed : throw Type(name, "a number");
        return number >= least && number <= most ? number : throw Range(name, number, least, most);
    }

    public long? Whole(string name, long least, long most)
    {
        if (Take(name) is not { } value)
        {
            return null;
        }

        // 16.0 is a whole number in some languages' JSON.
        long number = value.ValueKind != JsonValueKind.Number ? throw Type(name, "a whole number")
            : value.TryGetInt64(out long whole) ? whole
            : value.TryGetDouble(out double parsed) && parsed == Math.Floor(parsed) && Math.Abs(parsed) < 1e15 ? (long)parsed
            : throw Type(name, "a whole number");
        return number >= least && number <= most ? number : throw Range(name, number, least, most);
    }

    /// <summary>A string, or an array of them.</summary>
    public string[] Texts(string name, int most)
    {
        if (Take(name) is not { } value)
        {
            return [];
        }

        if (value.ValueKind == JsonValueKind.String)
        {
            return [value.GetString()!];
        }

        if (value.ValueKind != JsonValueKind.Array || value.EnumerateArray().Any(item => item.ValueKind != JsonValueKind.String))
        {
            throw Type(name, "a string or an array of strings");
        }

        return value.GetArrayLength() <= most ? [.. value.EnumerateArray().Select(item => item.GetString()!)]
            : throw ApiException.Invalid($"'{_path}{name}' has {value.GetArrayLength()} entries, at most {most} are possible.", _path + name);
    }

    /// <summary>Fields that change no answer: accepted whatever they hold.</summary>
    public void Accept(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            _ = Take(name);
        }
    }

    /// <summary>A field that this server can't serve, unless it asks for nothing.</summary>
    public void Refuse(string name, string why, Func<JsonElement, bool>? asksForNothing = null)
    {
        if (Take(name) is { } value && !IsEmpty(value) && asksForNothing?.Invoke(value) != true)
        {
            throw ApiException.Unsupported(_path + name, why);
        }
    }

    /// <summary>Refuses what is left.</summary>
    public void Finish()
    {
        if (_left.Keys.FirstOrDefault() is { } name)
        {
            throw ApiException.Invalid($"Unknown parameter: '{_path}{name}'.", _path + name, "unknown_parameter");
        }
    }

    public ApiException Type(string name, string expected) => ApiException.Invalid($"'{_path}{name}' must be {expected}.", _path + name, "invalid_type");

    private static bool IsEmpty(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => value.GetArrayLength() == 0,
        JsonValueKind.Object => !value.EnumerateObject().Any(),
        JsonValueKind.String => value.GetString()!.Length == 0,
        JsonValueKind.False => true,
        _ => false,
    };

    private ApiException Range(string name, double value, double least, double most)
    {
        string range = most >= long.MaxValue ? string.Create(CultureInfo.InvariantCulture, $"at least {least}") : string.Create(CultureInfo.InvariantCulture, $"from {least} to {most}");
        return ApiException.Invalid(string.Create(CultureInfo.InvariantCulture, $"'{_path}{name}' is {value}; it must be {range}."), _path + name, "invalid_value");
    }
}
