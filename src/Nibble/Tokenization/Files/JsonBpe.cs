using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>The <c>model</c> section of <c>tokenizer.json</c>; also vocabularies and merges that stand alone.</summary>
internal static class JsonBpe
{
    /// <summary>Reads the section.</summary>
    /// <param name="json">The whole document.</param>
    /// <param name="limits">Ceilings.</param>
    /// <param name="bytes">True if the pre-tokenizer turns pieces into bytes.</param>
    public static BpeRules Read(JsonConfig json, Limits limits, bool bytes)
    {
        JsonConfig? model = json.Section("model");
        if (model == null)
        {
            Throw.BadInput($"{json.Source}: model is missing", "this is no tokenizer.json", "choose the tokenizer.json of a model folder");
        }

        string type = model.GetString("type", model.Has("merges") ? "BPE" : "unknown");
        if (type != "BPE")
        {
            model.Refuse("type", $"a tokenizer of type {type} is not supported", "supported: BPE (byte-level, or characters with byte fallback)");
        }

        RefuseOptions(model);
        Vocabulary vocabulary = ReadVocabulary(model, "vocab", limits);
        MergeTable merges = ReadMerges(model, vocabulary, limits);
        string? unknown = model.GetString("unk_token", null);
        int unknownId = 0;
        if (unknown != null && !vocabulary.TryGet(unknown, out unknownId))
        {
            model.Refuse("unk_token", "the vocabulary has no such token", "correct the file");
        }

        return new BpeRules(vocabulary, merges)
        {
            Bytes = bytes,
            ByteFallback = model.GetBool("byte_fallback", false),
            IgnoreMerges = model.GetBool("ignore_merges", false),
            FuseUnknown = model.GetBool("fuse_unk", false),
            UnknownId = unknown != null ? unknownId : null,
        };
    }

    /// <summary>Reads an object of token → id.</summary>
    public static Vocabulary ReadVocabulary(JsonConfig json, string? key, Limits limits)
    {
        JsonElement tokens = json.Element;
        if (key != null && (!json.Element.TryGetProperty(key, out tokens) || tokens.ValueKind != JsonValueKind.Object))
        {
            json.Refuse(key, "expected an object of tokens with their ids", "download the file again");
        }

        Vocabulary vocabulary = new(json.Source, limits);
        try
        {
            foreach (JsonProperty token in tokens.EnumerateObject())
            {
                if (token.Value.ValueKind != JsonValueKind.Number || !token.Value.TryGetInt64(out long id))
                {
                    Throw.BadInput($"{json.Source}: token '{Vocabulary.Shorten(token.Name)}' has no whole number as id", $"found a JSON {token.Value.ValueKind}", "download the file again");
                    return vocabulary;
                }

                vocabulary.Add(token.Name, id);
            }
        }
        catch (InvalidOperationException error)
        {
            // A name that is no valid text, such as half of a surrogate pair.
            Throw.BadInput($"{json.Source}: a token is no valid text", error.Message, "download the file again", error);
        }

        if (vocabulary.Count == 0)
        {
            Throw.BadInput($"{json.Source}: the vocabulary is empty", remedy: "download the file again");
        }

        return vocabulary;
    }

    /// <summary>Adds one merge.</summary>
    public static void AddMerge(Vocabulary vocabulary, MergeTable merges, ReadOnlySpan<char> left, ReadOnlySpan<char> right, int rank, string source)
    {
        int length = left.Length + right.Length;
        Span<char> joined = length <= 256 ? stackalloc char[length] : new char[length];
        left.CopyTo(joined);
        right.CopyTo(joined[left.Length..]);
        if (!vocabulary.TryGet(left, out int leftId) || !vocabulary.TryGet(right, out int rightId) || !vocabulary.TryGet(joined, out int merged))
        {
            ReadOnlySpan<char> missing = !vocabulary.TryGet(left, out _) ? left : !vocabulary.TryGet(right, out _) ? right : joined;
            Throw.BadInput(
                $"{source}: merge {rank} ('{Vocabulary.Shorten(left.ToString())}' + '{Vocabulary.Shorten(right.ToString())}') is not possible",
                $"the vocabulary has no token '{Vocabulary.Shorten(missing.ToString())}'",
                "vocabulary and merges must come from the same model");
            return;
        }

        merges.Set(leftId, rightId, rank, merged);
    }

    private static void RefuseOptions(JsonConfig model)
    {
        foreach (string key in new[] { "continuing_subword_prefix", "end_of_word_suffix" })
        {
            if (!string.IsNullOrEmpty(model.GetString(key, null)))
            {
                model.Refuse(key, "word parts with a prefix or suffix are not supported", "supported: BPE without them, as GPT-2 and LLaMA have it");
            }
        }

        if (model.GetDouble("dropout", 0) != 0)
        {
            model.Refuse("dropout", "merges left out at random would make tokens differ from run to run", "set dropout to null");
        }
    }

    private static MergeTable ReadMerges(JsonConfig model, Vocabulary vocabulary, Limits limits)
    {
        if (!model.Element.TryGetProperty("merges", out JsonElement list) || list.ValueKind != JsonValueKind.Array)
        {
            model.Refuse("merges", "expected an array of merges", "download the file again");
        }

        int count = list.GetArrayLength();
        if (count > limits.VocabularyEntries)
        {
            Throw.BadInput($"{model.Source} has too many merges", $"{count:N0}, at most {limits.VocabularyEntries:N0} are read");
        }

        MergeTable merges = new(count);
        int rank = 0;
        foreach (JsonElement item in list.EnumerateArray())
        {
            (string left, string right) = Pair(item, rank, model.Source);
            AddMerge(vocabulary, merges, left, right, rank++, model.Source);
        }

        return merges;
    }

    /// <summary>Both forms of a merge: <c>"a b"</c> and <c>["a", "b"]</c>.</summary>
    private static (string Left, string Right) Pair(JsonElement item, int rank, string source)
    {
        try
        {
            if (item.ValueKind == JsonValueKind.String)
            {
                string[] parts = item.GetString()!.Split(' ');
                if (parts.Length == 2)
                {
                    return (parts[0], parts[1]);
                }
            }
            else if (item.ValueKind == JsonValueKind.Array && item.GetArrayLength() == 2
                && item[0].ValueKind == JsonValueKind.String && item[1].ValueKind == JsonValueKind.String)
            {
                return (item[0].GetString()!, item[1].GetString()!);
            }
        }
        catch (InvalidOperationException error)
        {
            Throw.BadInput($"{source}: merge {rank} is no valid text", error.Message, "download the file again", error);
        }

        Throw.BadInput($"{source}: merge {rank} is {Vocabulary.Shorten(item.GetRawText())}", "expected two tokens: \"a b\" or [\"a\", \"b\"]", "download the file again");
        return default;
    }
}
