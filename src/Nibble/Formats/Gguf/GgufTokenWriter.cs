using System.Globalization;
using System.Text.Json;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Formats;

/// <summary>Writes a model folder's tokenizer into the metadata of a GGUF file.</summary>
internal sealed class GgufTokenWriter(GgufMetadataWriter data, IReadOnlyDictionary<string, byte[]> files, string source, int size)
{
    private const string Prefix = "tokenizer.ggml.";

    private readonly string?[] _tokens = new string?[size];
    private readonly PieceType[] _types = new PieceType[size];

    /// <summary>Writes everything.</summary>
    /// <param name="tokenizer">The same tokenizer, built: it knows the ids of the roles.</param>
    /// <param name="eos">Tokens that end a text, the most important one first.</param>
    public void Write(Tokenizer tokenizer, IReadOnlyList<int> eos)
    {
        if (files.TryGetValue("tokenizer.model", out byte[]? model) && model.Length > 0 && model[0] == 0x0A)
        {
            WriteSentencePiece(SentencePieceModel.Parse(model, source, Limits.Default), tokenizer);
        }
        else if (files.TryGetValue("tokenizer.json", out byte[]? json))
        {
            WriteBpe(JsonConfig.Parse(json, source), tokenizer);
        }
        else
        {
            Throw.BadInput($"{source}: the tokenizer cannot be written to GGUF", "supported are tokenizer.json and SentencePiece's tokenizer.model", "save the tokenizer in one of these forms");
        }

        WriteRole("bos", tokenizer.BosId);
        WriteRole("eos", eos.Count > 0 ? eos[0] : null);
        WriteRole("eot", eos.Count > 1 ? eos[1] : null);
        WriteRole("padding", tokenizer.PadId);
        data.Bool(Prefix + "add_bos_token", tokenizer.AddsBos);
        data.Bool(Prefix + "add_eos_token", false);
        if (Template() is { } template)
        {
            data.Text("tokenizer.chat_template", template);
        }
    }

    private void WriteSentencePiece(SentencePieceModel model, Tokenizer tokenizer)
    {
        float[] scores = new float[size];
        Array.Fill(scores, -1e4f);
        for (int id = 0; id < model.Pieces.Count; id++)
        {
            Set(id, model.Pieces[id].Text, model.Pieces[id].Type);
            scores[id] = model.Pieces[id].Score;
        }

        Added(files.TryGetValue("tokenizer.json", out byte[]? json) ? JsonConfig.Parse(json, source) : null);
        data.Text(Prefix + "model", "llama");
        data.Text(Prefix + "pre", "default");
        WriteTokens(tokenizer);
        data.F32s(Prefix + "scores", scores);
        data.I32s(Prefix + "token_type", [.. _types.Select(type => (int)type)]);
        data.Bool(Prefix + "add_space_prefix", model.AddDummyPrefix);
        data.Bool(Prefix + "remove_extra_whitespaces", model.RemoveExtraWhitespaces);
        int unknown = Array.IndexOf(_types, PieceType.Unknown);
        WriteRole("unknown", unknown >= 0 ? unknown : null);
    }

    private void WriteBpe(JsonConfig json, Tokenizer tokenizer)
    {
        if (GgufSplits.Recognize(json.Section("pre_tokenizer")) is not { } split)
        {
            Throw.BadInput(
                $"{source}: the tokenizer's way to cut a text has no name in GGUF",
                "known are those of GPT-2, LLaMA-3, Qwen2 and SmolLM (tokenizer.ggml.pre)",
                "convert a model with one of these tokenizers, or with SentencePiece's tokenizer.model");
            return;
        }

        JsonConfig model = json.Section("model")!;
        Vocabulary vocabulary = JsonBpe.ReadVocabulary(model, "vocab", Limits.Default);
        for (int id = 0; id < vocabulary.Size; id++)
        {
            if (vocabulary.TextSpan[id] is { } text)
            {
                Set(id, text, PieceType.Normal);
            }
        }

        Added(json);
        data.Text(Prefix + "model", "gpt2");
        data.Text(Prefix + "pre", split);
        WriteTokens(tokenizer);
        data.I32s(Prefix + "token_type", [.. _types.Select(type => (int)type)]);
        data.Texts(Prefix + "merges", [.. Merges(model)]);
    }

    private static IEnumerable<string> Merges(JsonConfig model) => model.Element.GetProperty("merges").EnumerateArray()
        .Select(item => item.ValueKind == JsonValueKind.String ? item.GetString()! : $"{item[0].GetString()} {item[1].GetString()}");

    /// <summary>Added tokens keep their own text, also where the vocabulary is written in the byte alphabet.</summary>
    private void Added(JsonConfig? json)
    {
        foreach (JsonConfig token in json?.Sections("added_tokens") ?? [])
        {
            Set(token.GetInt("id", null, 0), token.GetString("content"), token.GetBool("special", false) ? PieceType.Control : PieceType.UserDefined);
        }
    }

    private void Set(int id, string text, PieceType type)
    {
        if (id >= size)
        {
            Throw.BadInput($"{source}: token '{Vocabulary.Shorten(text)}' has id {id:N0}, the embedding {size:N0} rows", remedy: "use the tokenizer that belongs to this model");
        }

        // SentencePiece's own kinds (unknown, byte) say more than "added".
        if (_tokens[id] == null || _types[id] == PieceType.Normal)
        {
            (_tokens[id], _types[id]) = (text, type);
        }
    }

    private void WriteTokens(Tokenizer tokenizer)
    {
        for (int id = 0; id < size; id++)
        {
            // Tokens may stand beside the files above: in tokenizer_config.json or added_tokens.json.
            if (_tokens[id] == null && tokenizer.TokenText(id) is { } text)
            {
                Set(id, text, tokenizer.IsSpecial(id) ? PieceType.Control : PieceType.UserDefined);
            }

            if (_tokens[id] == null)
            {
                // Rows of the embedding beyond the vocabulary: the format wants a text for each.
                (_tokens[id], _types[id]) = (string.Create(CultureInfo.InvariantCulture, $"[PAD{id}]"), PieceType.Unused);
            }
        }

        data.Texts(Prefix + "tokens", _tokens!);
    }

    private void WriteRole(string role, int? id)
    {
        if (id is int number)
        {
            data.U32($"{Prefix}{role}_token_id", number);
        }
    }

    private string? Template()
    {
        if (files.TryGetValue("chat_template.jinja", out byte[]? jinja))
        {
            return System.Text.Encoding.UTF8.GetString(jinja);
        }

        JsonConfig? config = files.TryGetValue("tokenizer_config.json", out byte[]? json) ? JsonConfig.Parse(json, source) : null;
        return config != null && config.Element.TryGetProperty("chat_template", out JsonElement template) && template.ValueKind == JsonValueKind.String ? template.GetString() : null;
    }
}
