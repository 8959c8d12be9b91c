using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>
/// Typed access to a JSON object of untrusted origin. Every refusal names file, key and value. A key may list alternatives,
/// first one wins: <c>GetInt("hidden_size|n_embd")</c>. A JSON <c>null</c> counts as absent.
/// </summary>
public sealed class JsonConfig
{
    private readonly string _prefix;

    private JsonConfig(JsonElement element, string source, string prefix)
    {
        Element = element;
        Source = source;
        _prefix = prefix;
    }

    /// <summary>The object itself.</summary>
    public JsonElement Element { get; }

    /// <summary>The file that it was read from, for error messages.</summary>
    public string Source { get; }

    /// <summary>Reads a file that holds one JSON object.</summary>
    /// <exception cref="NibbleException">No file, too large, not JSON, equal keys, or not an object.</exception>
    public static JsonConfig Open(string path, Limits? limits = null)
    {
        limits ??= Limits.Default;
        using MappedFile map = MappedFile.Open(path);
        if (map.ByteLength > Math.Min(limits.JsonBytes, int.MaxValue))
        {
            Throw.BadInput($"{path} is too large", $"{map.ByteLength:N0} bytes, at most {limits.JsonBytes:N0} are read");
        }

        return Parse(map.Span(0, (int)map.ByteLength), path, limits);
    }

    /// <summary>Reads a JSON object from memory.</summary>
    public static JsonConfig Parse(ReadOnlySpan<byte> json, string source, Limits? limits = null)
    {
        ReadOnlySpan<byte> mark = [0xEF, 0xBB, 0xBF];
        byte[] bytes = (json.StartsWith(mark) ? json[3..] : json).ToArray();
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
        {
            // The parser would find out only when the damaged text is asked for.
            Throw.BadInput($"{source} is not valid JSON", "its bytes are no valid UTF-8", "download the file again, or correct it");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(
                bytes,
                new JsonDocumentOptions { MaxDepth = (limits ?? Limits.Default).JsonDepth, AllowDuplicateProperties = false });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                Throw.BadInput($"{source} is not a JSON object", $"it is a JSON {document.RootElement.ValueKind}");
            }

            return new JsonConfig(document.RootElement.Clone(), source, string.Empty);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            Throw.BadInput($"{source} is not valid JSON", error.Message, "download the file again, or correct it", error);
            throw;
        }
    }

    /// <summary>True if the key (or an alternative) is there and not null.</summary>
    public bool Has(string key) => Find(key, out _, out _);

    /// <summary>True if the key is there with the value null, which some programs tell from a key that is absent.</summary>
    public bool IsNull(string key) => Element.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Null;

    /// <summary>A whole number.</summary>
    /// <param name="key">The key, or alternatives separated by <c>|</c>.</param>
    /// <param name="fallback">The value of an absent key; without it an absent key is refused.</param>
    /// <param name="min">Smallest value that makes sense.</param>
    /// <param name="max">Largest value that makes sense.</param>
    public int GetInt(string key, int? fallback = null, int min = 1, int max = int.MaxValue)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return fallback ?? Missing<int>(key);
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt64(out long number))
        {
            return Wrong<int>(name, value, "a whole number");
        }

        return number >= min && number <= max ? (int)number : OutOfRange<int>(name, value, min, max);
    }

    /// <summary>A real number; NaN and infinity cannot be written in JSON.</summary>
    public double GetDouble(string key, double? fallback = null, double min = double.MinValue, double max = double.MaxValue)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return fallback ?? Missing<double>(key);
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double number) || !double.IsFinite(number))
        {
            return Wrong<double>(name, value, "a number");
        }

        return number >= min && number <= max ? number : OutOfRange<double>(name, value, min, max);
    }

    /// <summary>True or false.</summary>
    public bool GetBool(string key, bool? fallback = null)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return fallback ?? Missing<bool>(key);
        }

        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : Wrong<bool>(name, value, "true or false");
    }

    /// <summary>A text; an absent key is refused.</summary>
    public string GetString(string key) => GetString(key, null) ?? Missing<string>(key);

    /// <summary>A text, or <paramref name="fallback"/> if the key is absent.</summary>
    [return: NotNullIfNotNull(nameof(fallback))]
    public string? GetString(string key, string? fallback)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return fallback;
        }

        return Text(name, value, "a text");
    }

    /// <summary>Whole numbers: an array, or one number alone (as <c>eos_token_id</c> is either); empty if absent.</summary>
    public IReadOnlyList<int> GetInts(string key, int min = int.MinValue, int max = int.MaxValue)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return [];
        }

        List<int> numbers = [];
        foreach (JsonElement item in Items(value))
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt64(out long number))
            {
                return Wrong<int[]>(name, value, "a whole number or an array of them");
            }

            numbers.Add(number >= min && number <= max ? (int)number : OutOfRange<int>(name, item, min, max));
        }

        return numbers;
    }

    /// <summary>Texts: an array, or one text alone; empty if absent.</summary>
    public IReadOnlyList<string> GetStrings(string key)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return [];
        }

        List<string> texts = [];
        foreach (JsonElement item in Items(value))
        {
            texts.Add(Text(name, item, "a text or an array of them"));
        }

        return texts;
    }

    /// <summary>A nested object, or null if absent.</summary>
    public JsonConfig? Section(string key)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return null;
        }

        return value.ValueKind == JsonValueKind.Object
            ? new JsonConfig(value, Source, Label(name) + ".")
            : Wrong<JsonConfig>(name, value, "an object");
    }

    /// <summary>A nested object whose key is data and may hold any character (<c>|</c> separates nothing here), or null.</summary>
    public JsonConfig? SectionNamed(string name) => !Element.TryGetProperty(name, out JsonElement value) ? null
        : value.ValueKind == JsonValueKind.Object ? new JsonConfig(value, Source, Label(name) + ".")
        : Wrong<JsonConfig>(name, value, "an object");

    /// <summary>The objects of an array; empty if the array is absent.</summary>
    public IReadOnlyList<JsonConfig> Sections(string key)
    {
        if (!Find(key, out JsonElement value, out string name))
        {
            return [];
        }

        if (value.ValueKind != JsonValueKind.Array)
        {
            return Wrong<JsonConfig[]>(name, value, "an array");
        }

        List<JsonConfig> sections = new(value.GetArrayLength());
        foreach (JsonElement item in value.EnumerateArray())
        {
            sections.Add(item.ValueKind == JsonValueKind.Object
                ? new JsonConfig(item, Source, $"{Label(name)}[{sections.Count}].")
                : Wrong<JsonConfig>(name, item, "an array of objects"));
        }

        return sections;
    }

    /// <summary>Refuses a value with the file, the key and the value in the message.</summary>
    [DoesNotReturn]
    public void Refuse(string key, string why, string? remedy = null)
    {
        string value = Find(key, out JsonElement element, out string name) ? Shorten(element) : "absent";
        Throw.BadInput($"{Source}: {Label(name)} = {value}", why, remedy);
    }

    private static IEnumerable<JsonElement> Items(JsonElement value) => value.ValueKind == JsonValueKind.Array ? value.EnumerateArray() : [value];

    private static string Shorten(JsonElement value)
    {
        string text = value.GetRawText();
        return text.Length > 60 ? text[..60] + "…" : text;
    }

    private bool Find(string key, out JsonElement value, out string name)
    {
        foreach (string alternative in key.Split('|'))
        {
            if (Element.TryGetProperty(alternative, out value) && value.ValueKind != JsonValueKind.Null)
            {
                name = alternative;
                return true;
            }
        }

        value = default;
        name = key;
        return false;
    }

    private string Text(string name, JsonElement value, string expected)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString()! : Wrong<string>(name, value, expected);
        }
        catch (InvalidOperationException)
        {
            // An escape such as \ud800 alone, or bytes that are no UTF-8: JSON's grammar allows the first, no text can hold it.
            return Wrong<string>(name, value, expected + " of valid characters");
        }
    }

    private string Label(string key) => _prefix + key;

    [DoesNotReturn]
    private T Missing<T>(string key)
    {
        Throw.BadInput($"{Source}: {Label(key.Replace("|", " or ", StringComparison.Ordinal))} is missing", "the model cannot be built without it", "download the file again, or add the key");
        return default;
    }

    [DoesNotReturn]
    private T Wrong<T>(string key, JsonElement value, string expected)
    {
        Throw.BadInput($"{Source}: {Label(key)} = {Shorten(value)}", $"expected {expected}, found a JSON {value.ValueKind}", "correct the file");
        return default;
    }

    [DoesNotReturn]
    private T OutOfRange<T>(string key, JsonElement value, double min, double max)
    {
        string range = string.Create(CultureInfo.InvariantCulture, $"{min} to {max}");
        Throw.BadInput($"{Source}: {Label(key)} = {Shorten(value)}", $"expected a value from {range}", "correct the file");
        return default;
    }
}
