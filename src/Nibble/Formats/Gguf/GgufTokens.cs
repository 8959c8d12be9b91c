using System.Text.Json;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Formats;

/// <summary>The tokenizer in a GGUF file's metadata, as the files of a model folder would say it.</summary>
internal sealed class GgufTokens
{
    private const string Prefix = "tokenizer.ggml.";

    private readonly GgufMetadata _data;
    private readonly string[] _tokens;
    private readonly long[] _types;

    private GgufTokens(GgufMetadata data, GgufValue tokens)
    {
        _data = data;
        Model = data.Text(Prefix + "model");
        _tokens = tokens.Texts();
        _types = data[Prefix + "token_type"]?.Integers() ?? [.. _tokens.Select(_ => (long)PieceType.Normal)];
        if (_types.Length != _tokens.Length)
        {
            Throw.BadInput($"{data.Path}: {_tokens.Length:N0} tokens, but {_types.Length:N0} types", "each token has one", "the file is damaged: download it again");
        }

        RequireBytes();
    }

    /// <summary><c>gpt2</c> (byte-level BPE) or <c>llama</c> (SentencePiece).</summary>
    public string Model { get; }

    /// <summary>The tokenizer's part of the metadata; null if the file has none.</summary>
    public static GgufTokens? Of(GgufMetadata data) => data[Prefix + "tokens"] is { } tokens && data.Text(Prefix + "model", "none") != "none" ? new GgufTokens(data, tokens) : null;

    /// <summary>The id of a role such as <c>bos</c>, or null; checked against the vocabulary.</summary>
    public static int? Role(GgufMetadata data, string role)
    {
        string key = $"{Prefix}{role}_token_id";
        if (data[key] is not { } value)
        {
            return null;
        }

        long id = value.Integer();
        // Writers mean "none" by −1, as I32 or as U32.
        if (id is -1 or uint.MaxValue)
        {
            return null;
        }

        if (id < 0 || id >= (data[Prefix + "tokens"]?.Count ?? 0))
        {
            value.Refuse("the vocabulary has no such token");
        }

        return (int)id;
    }

    /// <summary>Builds the tokenizer.</summary>
    public Tokenizer Build(byte[] config, Limits limits)
    {
        SpecialTokenFiles files = SpecialTokenFiles.Of(JsonConfig.Parse(TokenizerConfig(), _data.Path), JsonConfig.Parse(config, _data.Path));
        return Model switch
        {
            "gpt2" => TokenizerJson.Build(JsonConfig.Parse(TokenizerDocument(), _data.Path, limits), files, limits),
            "llama" => SentencePieceTokenizer.Build(SentencePieces(), _data.Path, files, limits),
            _ => Refuse(),
        };
    }

    /// <summary>The files of a model folder: name and content.</summary>
    public IEnumerable<(string Name, byte[] Content)> Files()
    {
        yield return Model == "llama"
            ? ("tokenizer.model", SentencePieceWriter.Bytes(SentencePieces()))
            : ("tokenizer.json", TokenizerDocument());
        yield return ("tokenizer_config.json", TokenizerConfig());
    }

    private Tokenizer Refuse()
    {
        Throw.BadInput($"{_data.Path}: a tokenizer of model '{Model}' is not supported", "supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE)", "use the model's Hugging Face folder");
        return null;
    }

    private void RequireBytes()
    {
        for (int id = 0; Model == "llama" && id < _tokens.Length; id++)
        {
            string text = _tokens[id];
            bool isByte = text.Length == 6 && text.StartsWith("<0x", StringComparison.Ordinal) && text[5] == '>' && char.IsAsciiHexDigit(text[3]) && char.IsAsciiHexDigit(text[4]);
            if (_types[id] == (int)PieceType.Byte && !isByte)
            {
                Throw.BadInput($"{_data.Path}: token {id:N0} is of type byte, but reads '{Vocabulary.Shorten(text)}'", "expected <0x00> to <0xFF>", "the file is damaged: download it again");
            }
        }
    }

    private byte[] TokenizerConfig() => JsonBytes.Of(json =>
    {
        json.WriteString("tokenizer_class", Model == "llama" ? "LlamaTokenizer" : "PreTrainedTokenizerFast");
        foreach ((string key, string role) in new[] { ("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding") })
        {
            if (Role(_data, role) is int id)
            {
                json.WriteString(key, _tokens[id]);
            }
        }

        json.WriteBoolean("add_bos_token", _data.Bool(Prefix + "add_bos_token", Model == "llama" || GgufSplits.AddsBos(Split)));
        json.WriteBoolean("add_eos_token", _data.Bool(Prefix + "add_eos_token", false));
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        if (_data.Text("tokenizer.chat_template", null) is { } template)
        {
            json.WriteString("chat_template", template);
        }
    });

    private string Split => _data.Text(Prefix + "pre", _data.Text("general.architecture", string.Empty) == "gpt2" ? "gpt-2" : "default");

    private SentencePieceModel SentencePieces()
    {
        double[] scores = _data[Prefix + "scores"]?.Numbers() ?? [];
        if (scores.Length != _tokens.Length)
        {
            Throw.BadInput($"{_data.Path}: {_tokens.Length:N0} tokens, but {scores.Length:N0} scores", "each token has one", "the file is damaged: download it again");
        }

        SentencePieceModel model = new()
        {
            ModelType = 2,
            AddDummyPrefix = _data.Bool(Prefix + "add_space_prefix", true),
            RemoveExtraWhitespaces = _data.Bool(Prefix + "remove_extra_whitespaces", false),
            BosId = Role(_data, "bos") ?? -1,
            EosId = Role(_data, "eos") ?? -1,
            PadId = Role(_data, "padding") ?? -1,
        };
        model.Pieces.AddRange(_tokens.Select((text, id) => new SentencePiece(text, (float)scores[id], (PieceType)_types[id])));
        model.ByteFallback = model.Pieces.Any(piece => piece.Type == PieceType.Byte);
        return model;
    }

    private byte[] TokenizerDocument() => JsonBytes.Of(json =>
    {
        json.WriteString("version", "1.0");
        json.WriteStartArray("added_tokens");
        foreach (int id in Ids(PieceType.Control, PieceType.UserDefined))
        {
            WriteAdded(json, id);
        }

        json.WriteEndArray();
        GgufSplits.Write(json, Split, _data.Path);
        json.WriteStartObject("decoder");
        json.WriteString("type", "ByteLevel");
        json.WriteEndObject();
        WriteModel(json);
    });

    private IEnumerable<int> Ids(params PieceType[] types) => Enumerable.Range(0, _tokens.Length).Where(id => types.Contains((PieceType)_types[id]));

    private void WriteAdded(Utf8JsonWriter json, int id)
    {
        json.WriteStartObject();
        json.WriteNumber("id", id);
        json.WriteString("content", _tokens[id]);
        foreach (string key in new[] { "single_word", "lstrip", "rstrip", "normalized" })
        {
            json.WriteBoolean(key, false);
        }

        json.WriteBoolean("special", _types[id] == (int)PieceType.Control);
        json.WriteEndObject();
    }

    private void WriteModel(Utf8JsonWriter json)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteBoolean("ignore_merges", GgufSplits.IgnoresMerges(Split));
        json.WriteStartObject("vocab");
        foreach (int id in Ids(PieceType.Normal, PieceType.Unknown, PieceType.Byte))
        {
            json.WriteNumber(_tokens[id], id);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach (string merge in _data[Prefix + "merges"]?.Texts() ?? [])
        {
            json.WriteStringValue(merge);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
