using System.Globalization;
using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>What a form of file says about special tokens by itself; the configs beside it may say more.</summary>
internal sealed record SpecialDefaults(int[] Prefix, int[] Suffix)
{
    /// <summary>BOS, if no config names one.</summary>
    public int? Bos { get; init; }

    /// <summary>EOS, if no config names one: those of these texts that the vocabulary has.</summary>
    public IReadOnlyList<string> EosTexts { get; init; } = [];

    /// <summary>Padding, if no config names it.</summary>
    public int? Pad { get; init; }
}

/// <summary>
/// The configs beside a tokenizer: <c>tokenizer_config.json</c>, <c>special_tokens_map.json</c>, <c>generation_config.json</c>
/// and <c>config.json</c>, in this order of precedence; and <c>added_tokens.json</c>, where older writers listed tokens.
/// </summary>
internal sealed class SpecialTokenFiles
{
    // The last two are lists; the last is what transformers 5 calls the one before.
    private static readonly string[] Roles = ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token", "additional_special_tokens", "extra_special_tokens"];

    private readonly JsonConfig?[] _texts;
    private readonly JsonConfig?[] _ids;
    private readonly JsonConfig? _added;
    private readonly HashSet<string> _special;

    private SpecialTokenFiles(JsonConfig?[] texts, JsonConfig?[] ids, JsonConfig? added)
    {
        (_texts, _ids, _added) = (texts, ids, added);
        _special = [.. Roles.SelectMany(SpecialTexts)];
    }

    /// <summary>The name of transformers' class, which decides how text is split where no file says so.</summary>
    public string? TokenizerClass => _texts[0]?.GetString("tokenizer_class", null);

    /// <summary>Reads what there is of the configs.</summary>
    public static SpecialTokenFiles Read(string folder, Limits limits)
    {
        JsonConfig? Open(string name)
        {
            string path = Path.Combine(folder, name);
            return File.Exists(path) ? JsonConfig.Open(path, limits) : null;
        }

        return new SpecialTokenFiles(
            [Open("tokenizer_config.json"), Open("special_tokens_map.json")],
            [Open("generation_config.json"), Open("config.json")],
            Open("added_tokens.json"));
    }

    /// <summary>Takes configs that may come from elsewhere: <c>tokenizer_config.json</c> and <c>config.json</c>.</summary>
    public static SpecialTokenFiles Of(JsonConfig tokenizer, JsonConfig model) => new([tokenizer, null], [null, model], null);

    /// <summary>Every text that a config gives a role.</summary>
    public IEnumerable<string> RoleTexts() =>
        new[] { "bos_token", "eos_token", "pad_token", "unk_token" }.Select(TextOf).OfType<string>().Distinct();

    /// <summary>True for a text with a role, and for those that a config lists as special besides: whatever the entry of a token itself says.</summary>
    public bool IsSpecial(string text) => _special.Contains(text);

    /// <summary>
    /// The tokens listed by id in <c>tokenizer_config.json</c>, for forms of files that list none. Where it lists none either, those of
    /// <c>added_tokens.json</c>, which has no flags: special are those that a config names, as in transformers.
    /// </summary>
    public IEnumerable<AddedToken> ListedTokens(Limits limits) =>
        _texts[0]?.Section("added_tokens_decoder") is { } list ? Listed(list, limits)
        : _added is null || !_added.Element.EnumerateObject().Any() ? []
        : Older(JsonBpe.ReadVocabulary(_added, null, limits));

    private IEnumerable<AddedToken> Older(Vocabulary tokens)
    {
        // Some models list a padding token that has no row in the embedding: no text can use it.
        int rows = Math.Min(tokens.Size, _ids[1]?.GetInt("vocab_size", int.MaxValue) ?? int.MaxValue);
        for (int id = 0; id < rows; id++)
        {
            if (tokens.TextSpan[id] is string text)
            {
                yield return new AddedToken(id, text) { Special = IsSpecial(text), Normalized = !IsSpecial(text) };
            }
        }
    }

    private IEnumerable<AddedToken> Listed(JsonConfig list, Limits limits)
    {
        foreach (JsonProperty entry in list.Element.EnumerateObject())
        {
            JsonConfig token = list.SectionNamed(entry.Name)!;
            // "7" and "07" would be one id with two tokens.
            if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || entry.Name != id.ToString(CultureInfo.InvariantCulture) || id >= limits.VocabularyEntries || token.GetString("content").Length == 0)
            {
                list.Refuse(entry.Name, $"expected an id from 0 to {limits.VocabularyEntries - 1:N0} and a token with content", "correct the file");
            }

            yield return Token(token, id);
        }
    }

    /// <summary>A token with its flags, as <c>tokenizer.json</c> and <c>tokenizer_config.json</c> write it.</summary>
    public AddedToken Token(JsonConfig token, int id)
    {
        bool special = token.GetBool("special", false);
        string content = token.GetString("content");
        return new AddedToken(id, content)
        {
            Special = special || IsSpecial(content),
            Normalized = token.GetBool("normalized", !special),
            SingleWord = token.GetBool("single_word", false),
            StripLeft = token.GetBool("lstrip", false),
            StripRight = token.GetBool("rstrip", false),
        };
    }

    /// <summary>Settles which ids have which role and what stands around a text.</summary>
    /// <param name="find">The id of a token's text.</param>
    /// <param name="size">Largest id + 1.</param>
    /// <param name="defaults">What holds where no config says otherwise.</param>
    public SpecialTokens Resolve(Func<string, int?> find, int size, SpecialDefaults defaults)
    {
        int? bos = Named("bos_token", find) ?? Numbers("bos_token_id", size).Select(id => (int?)id).FirstOrDefault() ?? defaults.Bos;
        List<int> eos = [];
        if (Named("eos_token", find) is int named)
        {
            eos.Add(named);
        }

        eos.AddRange(Numbers("eos_token_id", size));
        if (eos.Count == 0)
        {
            eos.AddRange(defaults.EosTexts.Select(find).OfType<int>());
        }

        int? pad = TextOf("pad_token") is string text ? find(text) : null;
        pad ??= _ids.SelectMany(config => config?.GetInts("pad_token_id") ?? []).Where(id => id >= 0 && id < size).Select(id => (int?)id).FirstOrDefault() ?? defaults.Pad;
        int[] prefix = Around(defaults.Prefix, "add_bos_token", bos, first: true);
        int[] suffix = Around(defaults.Suffix, "add_eos_token", eos.Count > 0 ? eos[0] : null, first: false);
        if (prefix.Concat(suffix).Any(id => id >= size))
        {
            Throw.BadInput("the post-processor adds a token that the vocabulary does not have", $"ids go to {size - 1}", "download the tokenizer again");
        }

        return new SpecialTokens(bos, eos.Distinct().ToArray(), pad, prefix, suffix);
    }

    /// <summary>Texts of a key, of the first config that has it: one or an array, each plain or as an object with <c>content</c>.</summary>
    private IEnumerable<string> SpecialTexts(string key)
    {
        JsonConfig? config = _texts.FirstOrDefault(candidate => candidate?.Has(key) ?? false);
        if (config is null)
        {
            return [];
        }

        JsonElement value = config.Element.GetProperty(key);
        try
        {
            return [.. (value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : new[] { value }).Select(Content).OfType<string>()];
        }
        catch (InvalidOperationException)
        {
            config.Refuse(key, "it is no valid text", "correct the file");
            throw;
        }
    }

    private static string? Content(JsonElement value)
    {
        value = value.ValueKind == JsonValueKind.Object && value.TryGetProperty("content", out JsonElement content) ? content : value;
        return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
    }

    private int[] Around(int[] given, string key, int? id, bool first)
    {
        if (id is not int token || _texts[0] is not JsonConfig config || !config.Has(key) || config.GetBool(key) == given.Contains(token))
        {
            return given;
        }

        return !config.GetBool(key) ? given.Where(other => other != token).ToArray()
            : first ? [token, .. given]
            : [.. given, token];
    }

    private int? Named(string key, Func<string, int?> find)
    {
        if (TextOf(key) is not string text)
        {
            return null;
        }

        int? id = find(text);
        if (id == null)
        {
            JsonConfig config = _texts.First(candidate => candidate?.Has(key) ?? false)!;
            config.Refuse(key, "the vocabulary has no such token", "tokenizer and config must come from the same model");
        }

        return id;
    }

    /// <summary>A role's text; configs write it plain or as an object with <c>content</c>.</summary>
    private string? TextOf(string key)
    {
        JsonConfig? config = _texts.FirstOrDefault(candidate => candidate?.Has(key) ?? false);
        return config == null ? null
            : config.Element.GetProperty(key).ValueKind == JsonValueKind.Object ? config.Section(key)!.GetString("content")
            : config.GetString(key);
    }

    /// <summary>The ids of a role from the first config that has any; −1 and the like mean none.</summary>
    private IEnumerable<int> Numbers(string key, int size)
    {
        foreach (JsonConfig config in _ids.OfType<JsonConfig>())
        {
            int[] ids = config.GetInts(key).Where(id => id >= 0).ToArray();
            if (ids.Any(id => id >= size))
            {
                config.Refuse(key, $"the vocabulary ends at id {size - 1}", "tokenizer and config must come from the same model");
            }

            if (ids.Length > 0)
            {
                return ids;
            }
        }

        return [];
    }
}
