using System.Globalization;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using Nibble.Generation;
using Nibble.Hub;
using Nibble.IO;
using Nibble.Models;
using Nibble.Templates;
using Nibble.Tokenization;

namespace Nibble.Server.OpenAi;

/// <summary>The one model of a server, and what requests become for it.</summary>
internal sealed class ServedModel
{
    private readonly LoadedModel _model;
    private readonly ChatTemplate? _template;
    private readonly int[] _chatEnds;

    /// <param name="model">The model.</param>
    /// <param name="template">A template in the place of the model's own; null for that, if it has one.</param>
    /// <param name="name">What it is called; null for its folder's name.</param>
    public ServedModel(LoadedModel model, ChatTemplate? template, string? name)
    {
        if (model.Facts.Labels > 0)
        {
            Throw.Usage($"this {model.Facts.ModelType} is a classifier with {model.Facts.Labels} labels", "it has no head over the vocabulary", "serve a language model");
        }

        (_model, _template) = (model, template ?? model.FindChatTemplate());
        _chatEnds = _template is null ? [] : ChatSession.Ends(model, _template);
        Name = name ?? HubCache.Called(model.Path);
        Created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        Fingerprint = FingerprintOf(model, _template);
    }

    public string Name { get; }

    /// <summary>When it was loaded.</summary>
    public long Created { get; }

    /// <summary>Differs when the same seed may give another answer: another model, build of Nibble, or kind of kernels.</summary>
    public string Fingerprint { get; }

    public int Context => _model.Facts.Context;

    public Tokenizer Tokenizer => _model.Tokenizer;

    public bool HasTemplate => _template is not null;

    /// <summary>The prompt of a conversation. The template writes BOS itself, where the model wants one.</summary>
    public int[] Prompt(ChatRequest request) => _template is null
        ? throw ApiException.Invalid(
            $"{Name} has no chat template: a base model continues texts. Use /v1/completions, or start the server with --chat-template FILE.", "messages", "no_chat_template")
        : Tokenizer.Encode(_template.Render(request.Messages, addGenerationPrompt: true), addSpecialTokens: false);

    /// <summary>The prompt of a text, or the tokens that it was given as.</summary>
    public int[] Prompt(CompletionPrompt prompt) => prompt.Text is null ? prompt.Tokens : Tokenizer.Encode(prompt.Text);

    /// <summary>Answers to a prompt: choice i draws with the seed + i.</summary>
    public IEnumerable<Sequence> Sequences(int[] prompt, SamplingFields sampling, bool chat)
    {
        string field = chat ? "messages" : "prompt";
        if (prompt.Length >= Context)
        {
            string message = string.Create(CultureInfo.InvariantCulture, $"This model's maximum context length is {Context} tokens, and the prompt has {prompt.Length}: there is no room for an answer.");
            throw ApiException.Invalid(message, field, "context_length_exceeded");
        }

        if (prompt.Length == 0)
        {
            throw ApiException.Invalid($"'{field}' has no tokens: give at least one.", field, "invalid_value");
        }

        ContinuousBatch.Require(_model.Model, Tokenizer, prompt, sampling.Options);
        IReadOnlyList<int> ends = chat ? _chatEnds : _model.EosIds;
        return Enumerable.Range(0, sampling.Choices).Select(i => new Sequence(prompt, ends, sampling.Options with { Seed = unchecked(sampling.Options.Seed + i) }));
    }

    /// <summary>A token as log probabilities tell it.</summary>
    public (string Text, byte[] Bytes) Describe(int token)
    {
        DecodePosition inside = new() { Tokens = 1, Inside = true };
        byte[] bytes = Tokenizer.Bytes(token, ref inside).ToArray();
        return (Encoding.UTF8.GetString(bytes), bytes);
    }

    public bool EndsText(int token, bool chat) => (chat ? _chatEnds : _model.EosIds).Contains(token);

    private static string FingerprintOf(LoadedModel model, ChatTemplate? template)
    {
        string version = typeof(ServedModel).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? string.Empty;
        FileInfo[] files = Directory.Exists(model.Path) ? new DirectoryInfo(model.Path).GetFiles() : [new FileInfo(model.Path)];
        string[] parts =
        [
            version, model.Backend.Name, model.Backend.KernelVariant, model.Model.ActivationDtype, model.Model.CacheType.ToString(), model.Tokenizer.Fingerprint,
            template?.Source ?? string.Empty,
            string.Create(CultureInfo.InvariantCulture, $"{model.Model.ParameterCount} {model.Model.WeightBytes}"),
            .. files.OrderBy(file => file.Name, StringComparer.Ordinal).Select(file => string.Create(CultureInfo.InvariantCulture, $"{file.Name} {file.Length} {file.LastWriteTimeUtc.Ticks}")),
        ];
        return "fp_" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', parts))))[..10];
    }
}
