using System.Text;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>GPT-2's own form: <c>vocab.json</c> (token → id) with <c>merges.txt</c> (a merge a line) beside it.</summary>
internal static class VocabMergesTokenizer
{
    private const string EndOfText = "<|endoftext|>";

    /// <summary>Reads both files and the configs beside them.</summary>
    public static Tokenizer Read(string folder, Limits limits)
    {
        string vocabPath = Path.Combine(folder, "vocab.json");
        string mergesPath = Path.Combine(folder, "merges.txt");
        SpecialTokenFiles files = SpecialTokenFiles.Read(folder, limits);
        bool qwen = IsQwen(files.TokenizerClass, folder);
        Vocabulary vocabulary = JsonBpe.ReadVocabulary(JsonConfig.Open(vocabPath, limits), null, limits);
        BpeRules rules = new(vocabulary, ReadMerges(mergesPath, vocabulary, limits)) { Bytes = true };
        List<AddedToken> added = Added(files, vocabulary, folder, limits);
        PieceStep splitter = qwen ? new ScanStep<Llama3Scanner>(new Llama3Scanner(digits: 1)) : new ScanStep<Gpt2Scanner>(default);
        splitter.Next = new BpeModel(rules);
        int? end = vocabulary.TryGet(EndOfText, out int id) ? id : null;
        SpecialTokens specials = files.Resolve(
            text => added.FirstOrDefault(token => token.Content == text)?.Id ?? (vocabulary.TryGet(text, out int own) ? own : null),
            added.Select(token => token.Id + 1).Append(vocabulary.Size).Max(),
            new SpecialDefaults([], []) { Bos = qwen ? null : end, EosTexts = [EndOfText] });
        return new PipelineTokenizer(new TokenizerParts(rules, splitter, DecoderRules.ByteLevel, specials)
        {
            Added = added,
            Normalizer = qwen ? new UnicodeNormalizer(NormalizationForm.FormC) : null,
        });
    }

    /// <summary>The files do not hold the split pattern; transformers' class name tells it.</summary>
    private static bool IsQwen(string? tokenizerClass, string folder)
    {
        string name = tokenizerClass ?? "GPT2Tokenizer";
        name = name.EndsWith("Fast", StringComparison.Ordinal) ? name[..^4] : name;
        if (name is not ("GPT2Tokenizer" or "Qwen2Tokenizer"))
        {
            Throw.BadInput(
                $"{folder}: vocab.json and merges.txt of a {tokenizerClass} are not supported",
                "they do not say how text is split; supported: GPT2Tokenizer, Qwen2Tokenizer",
                "use the model's tokenizer.json");
        }

        return name == "Qwen2Tokenizer";
    }

    private static MergeTable ReadMerges(string path, Vocabulary vocabulary, Limits limits)
    {
        using MappedFile map = MappedFile.Open(path);
        if (map.ByteLength > Math.Min(limits.JsonBytes, int.MaxValue) || !System.Text.Unicode.Utf8.IsValid(map.Span(0, (int)map.ByteLength)))
        {
            Throw.BadInput($"{path} is no list of merges", "it is too large or no UTF-8 text", "download the file again");
        }

        ReadOnlySpan<char> text = Encoding.UTF8.GetString(map.Span(0, (int)map.ByteLength));
        MergeTable merges = new(vocabulary.Count);
        int rank = 0;
        int number = 0;

        // Not EnumerateLines: that also cuts at U+0085 and U+2028, which a merge may contain.
        foreach (Range range in text.Split('\n'))
        {
            ReadOnlySpan<char> line = text[range].TrimEnd('\r');
            number++;
            if (line.IsEmpty || line.StartsWith("#version", StringComparison.Ordinal))
            {
                continue;
            }

            int space = line.IndexOf(' ');
            if (space <= 0 || space == line.Length - 1 || line[(space + 1)..].Contains(' '))
            {
                Throw.BadInput($"{path}: line {number} is no merge", $"'{Vocabulary.Shorten(line.ToString())}', expected two tokens with a space between", "download the file again");
            }

            JsonBpe.AddMerge(vocabulary, merges, line[..space], line[(space + 1)..], rank++, path);
        }

        return merges;
    }

    private static List<AddedToken> Added(SpecialTokenFiles files, Vocabulary vocabulary, string folder, Limits limits)
    {
        Dictionary<int, AddedToken> added = files.ListedTokens(limits).ToDictionary(token => token.Id);
        foreach (string text in files.RoleTexts().Append(EndOfText))
        {
            if (vocabulary.TryGet(text, out int id))
            {
                added.TryAdd(id, new AddedToken(id, text) { Special = true });
            }
        }

        Check(added.Values, vocabulary, folder);
        return [.. added.Values];
    }

    private static void Check(IEnumerable<AddedToken> added, Vocabulary vocabulary, string folder)
    {
        HashSet<string> contents = new(StringComparer.Ordinal);
        foreach (AddedToken token in added)
        {
            string? other = token.Id < vocabulary.Size ? vocabulary.TextSpan[token.Id] : null;
            if (!contents.Add(token.Content) || (other != null && other != token.Content))
            {
                Throw.BadInput(
                    $"{folder}: added token '{Vocabulary.Shorten(token.Content)}' contradicts the vocabulary",
                    other != null ? $"id {token.Id} is '{Vocabulary.Shorten(other)}' there" : "it has two ids",
                    "download the tokenizer files again");
            }
        }
    }
}
