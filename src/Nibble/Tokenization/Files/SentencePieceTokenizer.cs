using System.Globalization;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Builds a tokenizer from a SentencePiece BPE model.</summary>
internal static class SentencePieceTokenizer
{
    // The pairs of a piece grow with its length; real pieces have at most a few dozen characters.
    private const int LongestPiece = 512;

    /// <summary>Reads a <c>tokenizer.model</c> and the configs beside it.</summary>
    public static Tokenizer Read(string path, ReadOnlySpan<byte> bytes, Limits limits)
    {
        SentencePieceModel model = SentencePieceModel.Parse(bytes, path, limits);
        return Build(model, path, SpecialTokenFiles.Read(Path.GetDirectoryName(Path.GetFullPath(path))!, limits), limits);
    }

    /// <summary>Builds from a model that may come from elsewhere (GGUF holds the same pieces).</summary>
    public static Tokenizer Build(SentencePieceModel model, string source, SpecialTokenFiles files, Limits limits)
    {
        Check(model, source);
        Vocabulary vocabulary = new(source, limits);
        foreach (SentencePiece piece in model.Pieces)
        {
            vocabulary.Add(piece.Text, vocabulary.Count);
        }

        BpeRules rules = Rules(model, vocabulary, source);
        List<AddedToken> added = Added(model);
        added.AddRange(files.ListedTokens(limits).Where(token => token.Id >= vocabulary.Size));
        int size = added.Select(token => token.Id + 1).Append(vocabulary.Size).Max();
        int? bos = Role(model.BosId, size);
        SpecialTokens specials = files.Resolve(
            text => vocabulary.TryGet(text, out int id) ? id : added.FirstOrDefault(token => token.Content == text)?.Id,
            size,
            new SpecialDefaults(bos is int first ? [first] : [], [])
            {
                Bos = bos,
                EosTexts = Role(model.EosId, size) is int eos ? [vocabulary.TextSpan[eos]!] : [],
                Pad = Role(model.PadId, size),
            });
        return new PipelineTokenizer(new TokenizerParts(rules, new BpeModel(rules), DecoderRules.SentencePiece(model.AddDummyPrefix), specials)
        {
            Added = added,
            Normalizer = Normalizer(model),
        });
    }

    private static void Check(SentencePieceModel model, string source)
    {
        string? why = model.Pieces.Count == 0 ? "it has no pieces"
            : model.ModelType == 1 ? "its model is Unigram"
            : model.ModelType != 2 ? $"its model is of type {model.ModelType}"
            : model.WhitespaceAsSuffix ? "it writes spaces behind words"
            : model.HasCharacterMap ? "it maps characters (NFKC or the like) before it splits"
            : !model.EscapeWhitespaces ? "it does not escape spaces"
            : model.Pieces.Index().Any(piece => piece.Item.Type == PieceType.Unused && !IsPlaceholder(piece.Item.Text, piece.Index)) ? "it has unused pieces"
            : null;
        if (why != null)
        {
            Throw.BadInput($"{source}: this SentencePiece model is not supported", why, "supported: BPE without a character map, as LLaMA has it; or a tokenizer.json");
        }

        int wrong = model.Pieces.FindIndex(piece => piece.Text.Length is 0 or > LongestPiece || !float.IsFinite(piece.Score) || !Enum.IsDefined(piece.Type));
        if (wrong >= 0)
        {
            SentencePiece piece = model.Pieces[wrong];
            Throw.BadInput(
                $"{source}: piece {wrong} is damaged",
                $"text of {piece.Text.Length} characters, score {piece.Score}, type {(int)piece.Type}",
                "download the file again");
        }
    }

    // What GGUF files have for rows of the embedding that are no token's. No pieces join to it; real unused pieces would change how others join.
    private static bool IsPlaceholder(string text, int id) => text == string.Create(CultureInfo.InvariantCulture, $"[PAD{id}]");

    private static BpeRules Rules(SentencePieceModel model, Vocabulary vocabulary, string source)
    {
        bool hasBytes = model.Pieces.Any(piece => piece.Type == PieceType.Byte);
        if ((hasBytes || model.ByteFallback) && vocabulary.FallbackIds() == null)
        {
            Throw.BadInput($"{source}: byte pieces are missing", "byte fallback needs all of <0x00> to <0xFF>", "download the file again");
        }

        int unknown = model.Pieces.FindIndex(piece => piece.Type == PieceType.Unknown);
        return new BpeRules(vocabulary, Merges(model, vocabulary))
        {
            ByteFallback = hasBytes,
            UnknownId = unknown >= 0 ? unknown : null,
            FuseUnknown = true,
        };
    }

    /// <summary>
    /// SentencePiece joins any two neighbours that make a piece, best score first. So the merges are all cuts of all pieces, and
    /// equal scores share a rank, among which the leftmost wins.
    /// </summary>
    private static MergeTable Merges(SentencePieceModel model, Vocabulary vocabulary)
    {
        Dictionary<float, int> ranks = model.Pieces.Select(piece => piece.Score).Distinct().OrderDescending()
            .Select((score, rank) => (score, rank)).ToDictionary(item => item.score, item => item.rank);
        MergeTable merges = new(model.Pieces.Count * 4);
        for (int id = 0; id < model.Pieces.Count; id++)
        {
            SentencePiece piece = model.Pieces[id];
            for (int cut = 1; piece.Type == PieceType.Normal && cut < piece.Text.Length; cut++)
            {
                ReadOnlySpan<char> text = piece.Text;
                if (!char.IsLowSurrogate(text[cut]) && IsText(text[..cut], out int left) && IsText(text[cut..], out int right))
                {
                    merges.Set(left, right, ranks[piece.Score], id);
                }
            }
        }

        return merges;

        bool IsText(ReadOnlySpan<char> text, out int id) =>
            vocabulary.TryGet(text, out id) && model.Pieces[id].Type is PieceType.Normal or PieceType.UserDefined;
    }

    private static List<AddedToken> Added(SentencePieceModel model)
    {
        List<AddedToken> added = [];
        for (int id = 0; id < model.Pieces.Count; id++)
        {
            SentencePiece piece = model.Pieces[id];
            if (piece.Type is PieceType.Control or PieceType.Unknown)
            {
                added.Add(new AddedToken(id, piece.Text) { Special = true });
            }
            else if (piece.Type == PieceType.UserDefined)
            {
                // Such pieces are written with marks for spaces, so they are looked for where spaces are marks already.
                added.Add(new AddedToken(id, piece.Text) { Normalized = true, IsNormalForm = true });
            }
        }

        return added;
    }

    private static Normalizer Normalizer(SentencePieceModel model)
    {
        List<Normalizer> steps = [];
        if (model.RemoveExtraWhitespaces)
        {
            steps.Add(new ExtraSpacesNormalizer());
        }

        if (model.AddDummyPrefix)
        {
            steps.Add(new PrependNormalizer(" "));
        }

        steps.Add(new ReplaceNormalizer(" ", BpeRules.MarkText));
        return new SequenceNormalizer(steps);
    }

    private static int? Role(int id, int size) => id >= 0 && id < size ? id : null;
}
