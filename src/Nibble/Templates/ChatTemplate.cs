using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Templates;

/// <summary>A model's chat template: turns a conversation into the text that the model was trained on.</summary>
public sealed class ChatTemplate
{
    /// <summary>What templates see beside the conversation.</summary>
    private static readonly string[] TokenNames = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

    /// <summary>Where templates are looked for, in this order; the last one holds texts of tokens only.</summary>
    private static readonly string[] FileNames = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json", "special_tokens_map.json"];

    private readonly Template _template;
    private readonly Dictionary<string, object?> _tokens = new(StringComparer.Ordinal);

    private ChatTemplate(string source, string origin, Limits limits)
    {
        (Source, Origin) = (source, origin);
        try
        {
            _template = Template.Parse(source, limits);
        }
        catch (TemplateError error)
        {
            throw Refusal(error);
        }
    }

    /// <summary>Where it was found.</summary>
    public string Origin { get; }

    /// <summary>The template itself.</summary>
    public string Source { get; }

    /// <summary>Clock of <c>strftime_now</c>.</summary>
    internal TimeProvider Clock { get; private init; } = TimeProvider.System;

    /// <summary>
    /// The template of a model folder: <c>chat_template.jinja</c>, else <c>chat_template</c> of <c>tokenizer_config.json</c> (of a list the
    /// one named <c>default</c>).
    /// </summary>
    /// <exception cref="NibbleException">The folder has none, or it can't be read.</exception>
    public static ChatTemplate FromFolder(string folder, Limits? limits = null) =>
        Find(folder, limits) ?? throw Missing(folder);

    /// <summary>The error of a model without a template.</summary>
    internal static NibbleException Missing(string model) => new(
        ErrorKind.NotFound,
        $"{model} has no chat template",
        "looked for chat_template.jinja, chat_template.json and chat_template in tokenizer_config.json: a base model often has none",
        "take a model that was tuned for chat, name a template with --chat-template FILE, or use nibble generate");

    /// <summary>As <see cref="FromFolder"/>, or null where the folder has no template.</summary>
    public static ChatTemplate? Find(string folder, Limits? limits = null) =>
        FromFiles(FileNames.Select(name => Path.Combine(folder, name)).Where(File.Exists).ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes), folder, limits);

    /// <summary>The template among a tokenizer's files, or null.</summary>
    internal static ChatTemplate? FromFiles(IReadOnlyDictionary<string, byte[]> files, string origin, Limits? limits = null)
    {
        limits ??= Limits.Default;
        (string Name, string Source)? found = FileNames.Select(name => files.TryGetValue(name, out byte[]? bytes) && SourceIn(name, bytes, origin, limits) is { } source ? (name, source) : ((string, string)?)null)
            .FirstOrDefault(one => one is not null);
        if (found is null)
        {
            return null;
        }

        ChatTemplate template = new(found.Value.Source, $"{found.Value.Name} of {origin}", limits);
        template.ReadTokens(files, origin, limits);
        return template;
    }

    /// <summary>A template from a file.</summary>
    /// <param name="file">A Jinja file.</param>
    /// <param name="limits">Ceilings.</param>
    /// <param name="tokensOf">Model folder whose <c>bos_token</c> and the like the template sees.</param>
    public static ChatTemplate FromFile(string file, Limits? limits = null, string? tokensOf = null)
    {
        limits ??= Limits.Default;
        if (!File.Exists(file))
        {
            Throw.NotFound($"chat template {file} does not exist", remedy: "check the path");
        }

        ChatTemplate template = new(Evaluation.Texts.TextFile.Read(file, limits), file, limits);
        if (tokensOf is not null)
        {
            template.ReadTokens(FileNames.Select(name => Path.Combine(tokensOf, name)).Where(File.Exists).ToDictionary(one => Path.GetFileName(one), File.ReadAllBytes), tokensOf, limits);
        }

        return template;
    }

    /// <summary>A template from its text.</summary>
    public static ChatTemplate FromText(string source, Limits? limits = null, TimeProvider? clock = null) =>
        new(source, "the chat template", limits ?? Limits.Default) { Clock = clock ?? TimeProvider.System };

    /// <summary>The text of a conversation.</summary>
    /// <param name="messages">What was said.</param>
    /// <param name="addGenerationPrompt">Ends with what stands before the model's answer.</param>
    /// <exception cref="NibbleException">The template refuses the conversation, fails, or takes too much.</exception>
    public string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt) =>
        Render([.. messages.Select(message => message.Fields)], null, addGenerationPrompt);

    /// <summary>The text of a conversation whose messages have further fields.</summary>
    internal string Render(IReadOnlyList<IReadOnlyDictionary<string, object?>> messages, object? tools, bool addGenerationPrompt)
    {
        Dictionary<string, object?> variables = new(_tokens, StringComparer.Ordinal)
        {
            ["messages"] = messages.Cast<object?>().ToList(),
            ["tools"] = tools,
            ["documents"] = null,
            ["add_generation_prompt"] = addGenerationPrompt,
        };
        try
        {
            return _template.Render(variables, Clock);
        }
        catch (TemplateError error)
        {
            throw Refusal(error);
        }
    }

    /// <summary>Sets a token's text, such as <c>bos_token</c>.</summary>
    internal void SetToken(string name, string text) => _tokens[name] = text;

    private static string? Listed(JsonConfig config)
    {
        if (!config.Has("chat_template"))
        {
            return null;
        }

        JsonElement value = config.Element.GetProperty("chat_template");
        if (value.ValueKind != JsonValueKind.Array)
        {
            return config.GetString("chat_template");
        }

        JsonConfig[] all = [.. config.Sections("chat_template").Where(one => one.Has("template"))];
        return (all.FirstOrDefault(one => one.GetString("name", null) == "default") ?? all.FirstOrDefault())?.GetString("template");
    }

    private static string? SourceIn(string name, byte[] bytes, string origin, Limits limits) => name switch
    {
        "chat_template.jinja" => System.Text.Encoding.UTF8.GetString(bytes.AsSpan().StartsWith(System.Text.Encoding.UTF8.Preamble) ? bytes.AsSpan(3) : bytes),
        "special_tokens_map.json" => null,
        _ => Listed(JsonConfig.Parse(bytes, $"{name} of {origin}", limits)),
    };

    private void ReadTokens(IReadOnlyDictionary<string, byte[]> files, string origin, Limits limits)
    {
        foreach (string file in new[] { "special_tokens_map.json", "tokenizer_config.json" }.Where(files.ContainsKey))
        {
            JsonConfig config = JsonConfig.Parse(files[file], $"{file} of {origin}", limits);
            foreach (string name in TokenNames.Where(config.Has))
            {
                string? text = config.Element.GetProperty(name).ValueKind == JsonValueKind.Object ? config.Section(name)!.GetString("content", null) : config.GetString(name);
                if (text is not null)
                {
                    _tokens[name] = text;
                }
            }
        }
    }

    private NibbleException Refusal(TemplateError error)
    {
        string line = error.Line > 0 ? $" (line {error.Line})" : string.Empty;
        return error.Raised
            ? new NibbleException(ErrorKind.BadInput, $"the chat template refuses this conversation: {error.Message}", $"{Origin}{line} says so", "change roles or their order", error)
            : new NibbleException(ErrorKind.BadInput, $"{Origin}{line}: the chat template can't be used", error.Message, "name another with --chat-template FILE", error);
    }
}
