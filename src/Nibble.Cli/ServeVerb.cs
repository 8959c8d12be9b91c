using System.CommandLine;
using System.Text.RegularExpressions;
using Nibble.IO;
using Nibble.Models;
using Nibble.Server;
using Nibble.Server.OpenAi;
using Nibble.Templates;

namespace Nibble.Cli;

/// <summary><c>nibble serve</c>: a model behind the routes of OpenAI's API.</summary>
internal sealed partial class ServeVerb : IVerb
{
    /// <summary>The key, where the command line does not name it.</summary>
    private const string KeyVariable = "NIBBLE_API_KEY";

    private const int MostParallel = 1024;

    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string> _host = new("--host") { Description = "Address to listen at; 0.0.0.0 for every network, which needs a key.", DefaultValueFactory = _ => "127.0.0.1" };
    private readonly Option<int> _port = new("--port") { Description = "Port; 0 for a free one.", DefaultValueFactory = _ => 8080 };
    private readonly Option<string?> _apiKey = new("--api-key") { Description = $"Key that clients must send (better in {KeyVariable}: other users see command lines)." };
    private readonly Option<bool> _noKey = new("--no-api-key") { Description = "Let everybody in who reaches the address, on other machines too." };
    private readonly Option<string[]> _origins = new("--allow-origin") { Description = "Origin whose web pages may ask, as http://localhost:3000; * for all; may be repeated." };
    private readonly Option<string?> _name = new("--name") { Description = "What the model is called in answers (default: its name on the Hub, folder or file)." };
    private readonly Option<string?> _template = new("--chat-template") { Description = "Jinja file to use instead of the model's own template." };
    private readonly Option<int> _maxTokens = new("--max-tokens") { Description = "Most new tokens where a request does not say.", DefaultValueFactory = _ => new ServeOptions().MaxTokens };
    private readonly Option<int> _parallel = new("--parallel") { Description = "Answers that are generated at once; each may take a context of memory.", DefaultValueFactory = _ => new ServeOptions().Parallel };
    private readonly Option<int> _queue = new("--queue") { Description = "Answers that may wait; more are refused.", DefaultValueFactory = _ => new ServeOptions().Queue };
    private readonly Option<bool> _quiet = new("--quiet") { Description = "No line for each answer." };
    private readonly LoadFlags _load = new("auto", keepsPacks: true);

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("serve", "Serve a model to clients of OpenAI's API.")
        {
            _model, _host, _port, _apiKey, _noKey, _origins, _name, _template, _maxTokens, _parallel, _queue, _quiet,
        };
        _load.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        ListenAddress address = new(parsed.GetRequiredValue(_host), parsed.GetValue(_port));
        ServeOptions options = Options(parsed, address);
        string path = parsed.GetRequiredValue(_model);
        ChatTemplate? template = parsed.GetValue(_template) is { } file ? ChatTemplate.FromFile(file, tokensOf: Directory.Exists(path) ? path : null) : null;
        using LoadedModel loaded = LoadedModel.Load(path, _load.Read(parsed));
        loaded.Warnings.ToList().ForEach(warning => Console.Error.WriteLine("warning: " + warning));
        Interruption.IsServer = true;
        Interruption.Notice = "ending; answers under way get a moment (Ctrl-C again stops at once)";
        using OpenAiServer server = new(loaded, address, template, options);
        LocalServer.Run(
            server.Application,
            at =>
            {
                Console.Error.WriteLine(Started(server, loaded, at, options));
                // A first start answers while it still writes the packed weights.
                LoadFlags.Tell(loaded.FinishPackCache());
            },
            cancellation);
        // Service managers end a server with SIGTERM, which is no failure; Ctrl-C has the code that it has everywhere.
        cancellation.ThrowIfCancellationRequested();
    }

    private ServeOptions Options(ParseResult parsed, ListenAddress address)
    {
        string? key = parsed.GetValue(_apiKey) ?? (Environment.GetEnvironmentVariable(KeyVariable) is { Length: > 0 } set ? set : null);
        bool open = parsed.GetValue(_noKey);
        if (key is not null && open)
        {
            Throw.Usage("a key and --no-api-key", "they contradict each other", $"give one of them ({KeyVariable} is a key too)");
        }

        // An address that is none is told before a model is loaded.
        if (!address.IsLoopback && key is null && !open)
        {
            Throw.Usage(
                $"--host {address.Host} without a key", "everybody in that network could use the model",
                $"set {KeyVariable} or --api-key; --no-api-key lets everybody in");
        }

        foreach (string origin in parsed.GetValue(_origins) ?? [])
        {
            RequireOrigin(origin);
        }

        Require(parsed, _maxTokens, 1);
        Require(parsed, _parallel, 1, MostParallel);
        Require(parsed, _queue, 0);
        return new ServeOptions
        {
            Name = parsed.GetValue(_name),
            ApiKey = key,
            AllowedOrigins = parsed.GetValue(_origins) ?? [],
            MaxTokens = parsed.GetValue(_maxTokens),
            Parallel = parsed.GetValue(_parallel),
            Queue = parsed.GetValue(_queue),
            Log = parsed.GetValue(_quiet) ? null : Console.Error.WriteLine,
        };
    }

    // Browsers send scheme, host and port alone: anything else would be taken, and match none of them.
    private static void RequireOrigin(string origin)
    {
        if (origin is not ("*" or "null") && !Origin().IsMatch(origin))
        {
            Throw.Usage($"--allow-origin {origin}", "no page has this origin", "give scheme, host and port, as http://localhost:3000; or * for all");
        }
    }

    [GeneratedRegex("^[A-Za-z][A-Za-z0-9+.-]*://[^/?#\\s]+/?$")]
    private static partial Regex Origin();

    private static void Require(ParseResult parsed, Option<int> option, int least, int most = int.MaxValue)
    {
        int value = parsed.GetValue(option);
        if (value < least || value > most)
        {
            Throw.Usage($"{option.Name} {value} makes no sense", most == int.MaxValue ? $"it must be at least {least}" : $"it must be from {least} to {most}");
        }
    }

    private static string Started(OpenAiServer server, LoadedModel loaded, Uri at, ServeOptions options)
    {
        string chat = server.HasChatTemplate ? "chat and completions" : "completions; it has no chat template (--chat-template FILE)";
        return $"{server.Name} at {at}v1 ({chat}; {loaded.Backend.Name} {loaded.Backend.KernelVariant}, {loaded.Backend.Threads} threads; {options.Parallel} answers at once{(options.ApiKey is null ? string.Empty : "; with a key")}). Ctrl-C ends it.";
    }
}
