using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Text;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>
/// Tiktoken ranks as LLaMA-3 has them: a line per token, its bytes in base64 and its rank. The file holds neither the split
/// pattern nor the special tokens, so those are LLaMA-3's.
/// </summary>
internal static class TiktokenTokenizer
{
    private const int MostRanks = 128_000;
    private const int SpecialCount = 256;
    private const int LongestToken = 512;

    /// <summary>Reads a file and the configs beside it.</summary>
    public static Tokenizer Read(string path, ReadOnlySpan<byte> bytes, Limits limits)
    {
        Vocabulary vocabulary = ReadRanks(path, bytes, limits);
        if (vocabulary.Count != vocabulary.Size || vocabulary.Size > MostRanks)
        {
            Throw.BadInput(
                $"{path}: these tiktoken ranks belong to no known model",
                $"{vocabulary.Count:N0} tokens, highest rank {vocabulary.Size - 1:N0}; LLaMA-3 has {MostRanks:N0} without holes",
                "use the model's tokenizer.json");
        }

        int missing = Array.IndexOf(vocabulary.ByteIds(), -1);
        if (missing >= 0)
        {
            Throw.BadInput($"{path}: byte 0x{missing:X2} has no rank", "every single byte must be a token", "download the file again");
        }

        BpeRules rules = new(vocabulary, Merges(vocabulary)) { Bytes = true, IgnoreMerges = true };
        SpecialTokenFiles files = SpecialTokenFiles.Read(Path.GetDirectoryName(Path.GetFullPath(path))!, limits);
        Dictionary<int, AddedToken> added = Specials(vocabulary.Size).ToDictionary(token => token.Id);
        foreach (AddedToken token in files.ListedTokens(limits).Where(token => token.Id >= vocabulary.Size))
        {
            added[token.Id] = token;
        }

        PieceStep splitter = new ScanStep<Llama3Scanner>(new Llama3Scanner(digits: 3)) { Next = new BpeModel(rules) };
        SpecialTokens specials = files.Resolve(
            text => added.Values.FirstOrDefault(token => token.Content == text)?.Id,
            added.Keys.Max() + 1,
            new SpecialDefaults([vocabulary.Size], [])
            {
                Bos = vocabulary.Size,
                EosTexts = ["<|end_of_text|>", "<|eot_id|>"],
            });
        return new PipelineTokenizer(new TokenizerParts(rules, splitter, DecoderRules.ByteLevel, specials) { Added = [.. added.Values] });
    }

    /// <summary>True if a file begins like a list of ranks.</summary>
    public static bool Looks(ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> line = bytes[..Math.Min(bytes.Length, LongestToken * 2)];
        int end = line.IndexOf((byte)'\n');
        line = end >= 0 ? line[..end] : line;
        int space = line.IndexOf((byte)' ');
        return space > 0
            && !line[(space + 1)..].ContainsAnyExcept("0123456789\r"u8)
            && !line[..space].ContainsAnyExcept("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="u8);
    }

    private static Vocabulary ReadRanks(string path, ReadOnlySpan<byte> bytes, Limits limits)
    {
        Vocabulary vocabulary = new(path, limits);
        int number = 0;
        while (!bytes.IsEmpty)
        {
            int end = bytes.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = (end < 0 ? bytes : bytes[..end]).TrimEnd((byte)'\r');
            bytes = end < 0 ? [] : bytes[(end + 1)..];
            number++;
            if (!line.IsEmpty)
            {
                ReadRank(vocabulary, line, path, number);
            }
        }

        return vocabulary;
    }

    private static void ReadRank(Vocabulary vocabulary, ReadOnlySpan<byte> line, string path, int number)
    {
        int space = line.IndexOf((byte)' ');
        Span<byte> token = stackalloc byte[LongestToken];
        int length = 0;
        long rank = 0;
        bool good = space > 0
            && Base64.DecodeFromUtf8(line[..space], token, out int used, out length) == OperationStatus.Done && used == space && length > 0
            && long.TryParse(line[(space + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out rank);
        if (!good)
        {
            Throw.BadInput(
                $"{path}: line {number} is no rank",
                $"'{Vocabulary.Shorten(Encoding.Latin1.GetString(line))}', expected base64 of at most {LongestToken} bytes, a space and a number",
                "download the file again");
        }

        vocabulary.Add(ByteAlphabet.TextOf(token[..length]), rank);
    }

    /// <summary>Tiktoken joins any two neighbours that make a token, lowest rank first: the merges are all cuts of all tokens.</summary>
    private static MergeTable Merges(Vocabulary vocabulary)
    {
        MergeTable merges = new(vocabulary.Count * 3);
        for (int id = 0; id < vocabulary.Size; id++)
        {
            ReadOnlySpan<char> text = vocabulary.TextSpan[id];
            for (int cut = 1; cut < text.Length; cut++)
            {
                if (vocabulary.TryGet(text[..cut], out int left) && vocabulary.TryGet(text[cut..], out int right))
                {
                    merges.Set(left, right, id, id);
                }
            }
        }

        return merges;
    }

    private static IEnumerable<AddedToken> Specials(int first)
    {
        string[] names =
        [
            "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
            "<|reserved_special_token_2|>", "<|reserved_special_token_3|>", "<|start_header_id|>", "<|end_header_id|>",
            "<|reserved_special_token_4|>", "<|eot_id|>",
        ];
        for (int i = 0; i < SpecialCount; i++)
        {
            string name = i < names.Length ? names[i] : string.Create(CultureInfo.InvariantCulture, $"<|reserved_special_token_{i - 5}|>");
            yield return new AddedToken(first + i, name) { Special = true };
        }
    }
}
