using System.CommandLine;
using System.Globalization;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Templates;

namespace Nibble.Cli;

/// <summary><c>nibble chat</c>: a conversation, at the terminal or with a line of stdin for each message.</summary>
internal sealed class ChatVerb : IVerb
{
    private const string Help = "/reset forgets the conversation, /exit ends, Ctrl-C stops an answer; a line that ends in \\ goes on in the next one";

    // The answer that is being written, for Ctrl-C.
    private static CancellationTokenSource? _answer;

    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string?> _system = new("--system") { Description = "What the model is told before everything else." };
    private readonly Option<string?> _template = new("--chat-template") { Description = "Jinja file to use instead of the model's own template." };
    private readonly SamplingFlags _sampling = new(maxTokens: 512, temperature: 0.7, topP: 0.95);
    private readonly LoadFlags _load = new("auto", keepsPacks: true);

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("chat", "Talk with a model.") { _model, _system, _template };
        _sampling.AddTo(command);
        _load.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        GenerationOptions options = _sampling.Read(parsed, cancellation);
        string path = parsed.GetRequiredValue(_model);
        using LoadedModel loaded = LoadedModel.Load(path, _load.Read(parsed));
        loaded.Warnings.ToList().ForEach(warning => Console.Error.WriteLine("warning: " + warning));
        ChatTemplate? template = parsed.GetValue(_template) is { } file ? ChatTemplate.FromFile(file, tokensOf: Directory.Exists(path) ? path : null) : null;
        using ChatSession session = new(loaded, template, parsed.GetValue(_system));
        bool terminal = !Console.IsInputRedirected;
        if (terminal)
        {
            Interruption.EndPart = EndAnswer;
            Console.Error.WriteLine(Help);
        }

        for (int turn = 0; Read(terminal) is { } line && line.Trim() is not ("/exit" or "/quit" or "/bye"); turn++)
        {
            Turn(session, line, options with { Seed = options.Seed + turn }, terminal);
        }

        Console.Out.Flush();
        LoadFlags.Tell(loaded.FinishPackCache());
    }

    private static void Turn(ChatSession session, string line, GenerationOptions options, bool terminal)
    {
        switch (line.Trim())
        {
            case "":
                return;
            case "/reset":
                session.Reset();
                Console.Error.WriteLine("(a new conversation)");
                return;
            case "/help" or "/?":
                Console.Error.WriteLine(Help);
                return;
            case ['/', .. string word] when terminal && word.Length > 0 && word.All(char.IsAsciiLetter):
                Console.Error.WriteLine($"/{word} is no command: {Help}");
                return;
        }

        // At a terminal Ctrl-C ends this answer alone.
        using CancellationTokenSource answer = CancellationTokenSource.CreateLinkedTokenSource(options.Cancellation);
        Volatile.Write(ref _answer, answer);
        try
        {
            Answer(session, line, options with { Cancellation = answer.Token });
        }
        catch (OperationCanceledException) when (terminal && !options.Cancellation.IsCancellationRequested)
        {
            Console.Out.WriteLine();
            Console.Error.WriteLine("(stopped: this question and its answer are not kept)");
            return;
        }
        catch (NibbleException error) when (terminal && error.Kind == ErrorKind.BadInput)
        {
            // At a terminal the user can go on; a script ends with the error's code.
            Console.Error.WriteLine(error.Message);
            return;
        }
        finally
        {
            Volatile.Write(ref _answer, null);
        }

        Console.Out.WriteLine();
        if (terminal && session.Timings is { } timings)
        {
            Console.Error.WriteLine(Summary(session, timings));
        }
    }

    private static void Answer(ChatSession session, string line, GenerationOptions options)
    {
        foreach (string piece in session.Answer(line, options))
        {
            Console.Out.Write(piece);
            Console.Out.Flush();
        }
    }

    private static string Summary(ChatSession session, GenerationTimings timings)
    {
        string speed = double.IsNaN(timings.DecodeTokensPerSecond) ? string.Empty : string.Create(CultureInfo.InvariantCulture, $", {timings.DecodeTokensPerSecond:N0} tokens/s");
        return string.Create(
            CultureInfo.InvariantCulture,
            $"({session.Tokens:N0} tokens so far, {session.KeptTokens:N0} of them kept from before; first after {timings.TimeToFirstToken.TotalMilliseconds:N0} ms{speed})");
    }

    // Between answers Ctrl-C ends the command, as it does everywhere.
    private static bool EndAnswer()
    {
        try
        {
            CancellationTokenSource? answer = Volatile.Read(ref _answer);
            answer?.Cancel();
            return answer is not null;
        }
        catch (ObjectDisposedException)
        {
            // It ended by itself at this moment.
            return true;
        }
    }

    /// <summary>A message: a line, and those after it as long as each ends in a backslash. Null at the end.</summary>
    private static string? Read(bool terminal)
    {
        Prompt(terminal, "> ");
        string? text = StandardInput.ReadLine();
        while (text is not null && text.EndsWith('\\'))
        {
            Prompt(terminal, "… ");
            text = text[..^1] + "\n" + StandardInput.ReadLine();
        }

        return text;
    }

    private static void Prompt(bool terminal, string text)
    {
        if (terminal)
        {
            Console.Error.Write(text);
        }
    }
}
