using Nibble.IO;
using Nibble.Models;
using Nibble.Templates;

namespace Nibble.Generation;

/// <summary>A conversation with a model: keeps what was said, and streams the answers. Only tokens that are new run through the model.</summary>
public sealed class ChatSession : IDisposable
{
    private readonly PromptCache _past;
    private readonly LoadedModel _model;
    private readonly ChatTemplate _template;
    private readonly string? _system;
    private readonly List<ChatMessage> _messages = [];
    private readonly int[] _ends;

    /// <summary>Starts a conversation.</summary>
    /// <param name="model">The model.</param>
    /// <param name="template">Its template; null for the one that it comes with.</param>
    /// <param name="system">What the model is told before everything else.</param>
    /// <exception cref="NibbleException">The model has no template or no tokenizer, or the template takes no system message.</exception>
    public ChatSession(LoadedModel model, ChatTemplate? template = null, string? system = null)
    {
        (_model, _template, _system) = (model, template ?? model.ChatTemplate(), system);
        _past = new PromptCache(model.Model);
        _ends = Ends(model, _template);
        Reset();
    }

    /// <summary>What was said.</summary>
    public IReadOnlyList<ChatMessage> Messages => _messages;

    /// <summary>Tokens of the conversation at the last answer, that answer included.</summary>
    public int Tokens { get; private set; }

    /// <summary>Tokens of the last answer's prompt that had run before and did not again.</summary>
    public int KeptTokens => _past.Kept;

    /// <summary>How long the last answer took.</summary>
    public GenerationTimings? Timings { get; private set; }

    /// <inheritdoc/>
    public void Dispose() => _past.Dispose();

    /// <summary>Forgets the conversation, but not the system message.</summary>
    public void Reset()
    {
        _messages.Clear();
        Tokens = 0;
        if (_system is not null)
        {
            _messages.Add(new ChatMessage("system", _system));
        }
    }

    /// <summary>Begins with what was said elsewhere, a system message included.</summary>
    public void Load(IEnumerable<ChatMessage> messages)
    {
        _messages.Clear();
        _messages.AddRange(messages);
    }

    /// <summary>Answers a message, piece by piece. An answer that is not read to its end is not kept, and neither is its question.</summary>
    /// <exception cref="NibbleException">The conversation has become longer than the model's context, or the template refuses it.</exception>
    public IEnumerable<string> Answer(string text, GenerationOptions options)
    {
        _messages.Add(new ChatMessage("user", text));
        bool done = false;
        try
        {
            using Generator generator = Generator(options);
            foreach (GenerationStep step in generator.Run())
            {
                if (step.Text.Length > 0)
                {
                    yield return step.Text;
                }
            }

            GeneratedText result = generator.Results[0];
            _messages.Add(new ChatMessage("assistant", result.Text));
            (Tokens, Timings, done) = (result.PromptTokens + result.Tokens.Count, generator.Timings, true);
        }
        finally
        {
            if (!done)
            {
                _messages.RemoveAt(_messages.Count - 1);
            }
        }
    }

    private Generator Generator(GenerationOptions options)
    {
        // The template writes BOS itself, where the model wants one.
        int[] prompt = _model.Tokenizer.Encode(_template.Render(_messages, addGenerationPrompt: true), addSpecialTokens: false);
        if (prompt.Length >= _model.Facts.Context)
        {
            Throw.BadInput(
                $"the conversation has {prompt.Length:N0} tokens, the model's context {_model.Facts.Context:N0}",
                "there is no room for an answer",
                "begin a new conversation (/reset)");
        }

        return new Generator(_model.Model, _model.Tokenizer, _ends, [prompt], options, _past);
    }

    /// <summary>Tokens that end an answer: those that end the model's texts, and the one that a template puts after an answer.</summary>
    internal static int[] Ends(LoadedModel model, ChatTemplate template) => [.. model.EosIds.Concat(EndOfTurn(model, template)).Distinct()];

    /// <summary>
    /// The special token that the template puts after an answer, if it does so: a model's configuration does not always list it among
    /// the tokens that end a text.
    /// </summary>
    private static IEnumerable<int> EndOfTurn(LoadedModel model, ChatTemplate template)
    {
        const string Probe = "nibble";
        string text;
        try
        {
            text = template.Render([new ChatMessage("user", "x"), new ChatMessage("assistant", Probe)], addGenerationPrompt: false);
        }
        catch (NibbleException)
        {
            // A template that wants more than a question and an answer says so when it is used.
            return [];
        }

        int end = text.LastIndexOf(Probe, StringComparison.Ordinal);
        int[] after = end < 0 ? [] : model.Tokenizer.Encode(text[(end + Probe.Length)..].TrimStart(), addSpecialTokens: false);
        return after.Take(1).Where(model.Tokenizer.IsSpecial);
    }
}
