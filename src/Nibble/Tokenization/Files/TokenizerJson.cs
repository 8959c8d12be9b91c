using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Reads <c>tokenizer.json</c>, the form of Hugging Face's tokenizers library.</summary>
internal static class TokenizerJson
{
    /// <summary>Reads a file and the configs beside it.</summary>
    public static Tokenizer Read(string path, Limits limits)
    {
        SpecialTokenFiles files = SpecialTokenFiles.Read(Path.GetDirectoryName(Path.GetFullPath(path))!, limits);
        return Build(JsonConfig.Open(path, limits), files, limits);
    }

    /// <summary>Builds from a document that may come from elsewhere.</summary>
    public static Tokenizer Build(JsonConfig json, SpecialTokenFiles files, Limits limits)
    {
        JsonSplitters splitters = JsonSplitters.Read(json.Section("pre_tokenizer"));
        BpeRules rules = JsonBpe.Read(json, limits, splitters.Bytes);
        IReadOnlyList<AddedToken> added = Added(json, rules.Vocabulary, files, limits);
        (int[] prefix, int[] suffix) = JsonTemplate.Read(json.Section("post_processor"), limits);

        // Without configs the file does not say which token ends a text; these are the names that models use.
        SpecialTokens specials = files.Resolve(
            text => Find(text, added, rules.Vocabulary),
            added.Select(token => token.Id + 1).Append(rules.Vocabulary.Size).Max(),
            new SpecialDefaults(prefix, suffix)
            {
                Bos = prefix.Length > 0 ? prefix[0] : null,
                EosTexts = ["</s>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>"],
            });
        return new PipelineTokenizer(new TokenizerParts(rules, splitters.Chain(new BpeModel(rules)), JsonDecoder.Read(json.Section("decoder")), specials)
        {
            Added = added,
            Normalizer = JsonNormalizer.Read(json.Section("normalizer")),
        });
    }

    private static int? Find(string text, IReadOnlyList<AddedToken> added, Vocabulary vocabulary) =>
        added.FirstOrDefault(token => token.Content == text)?.Id ?? (vocabulary.TryGet(text, out int id) ? id : null);

    private static List<AddedToken> Added(JsonConfig json, Vocabulary vocabulary, SpecialTokenFiles files, Limits limits)
    {
        List<AddedToken> added = [];
        Dictionary<int, string> texts = [];
        HashSet<string> contents = new(StringComparer.Ordinal);
        foreach (JsonConfig token in json.Sections("added_tokens"))
        {
            string content = token.GetString("content");
            int id = token.GetInt("id", min: 0, max: limits.VocabularyEntries - 1);
            if (content.Length == 0)
            {
                token.Refuse("content", "an added token without text would match everywhere", "correct the file");
            }

            string? other = texts.GetValueOrDefault(id) ?? (id < vocabulary.Size ? vocabulary.TextSpan[id] : null);
            if (!texts.TryAdd(id, content) || (other != null && other != content))
            {
                token.Refuse("id", $"this id belongs to '{Vocabulary.Shorten(other ?? content)}'", "download the file again");
            }

            if (!contents.Add(content) || (vocabulary.TryGet(content, out int own) && own != id))
            {
                token.Refuse("content", "the same text has another id as well", "download the file again");
            }

            added.Add(files.Token(token, id));
        }

        return added;
    }
}
