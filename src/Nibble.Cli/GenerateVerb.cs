using System.CommandLine;
using System.Globalization;
using Nibble.Generation;
using Nibble.Models;

namespace Nibble.Cli;

/// <summary><c>nibble generate</c>: continues prompts.</summary>
internal sealed class GenerateVerb : IVerb
{
    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string[]> _prompt = new("--prompt") { Description = "Text to continue; '-' reads stdin. May be repeated: all run as one batch.", Required = true };
    private readonly Option<int> _maxTokens = new("--max-tokens") { Description = "Most new tokens.", DefaultValueFactory = _ => 128 };
    private readonly Option<double> _temperature = new("--temperature") { Description = "0 takes the most likely token; 1 draws as the model says." };
    private readonly Option<int> _topK = new("--top-k") { Description = "Draw from the k most likely tokens only (0: all)." };
    private readonly Option<double> _topP = new("--top-p") { Description = "Draw from the most likely tokens that make up this probability.", DefaultValueFactory = _ => 1 };
    private readonly Option<double> _penalty = new("--repetition-penalty") { Description = "Makes tokens that were seen less likely (1: off).", DefaultValueFactory = _ => 1 };
    private readonly Option<string[]> _stop = new("--stop") { Description = "End before this text; may be repeated." };
    private readonly Option<bool> _ignoreEos = new("--ignore-eos") { Description = "Go on after a token that ends a text." };
    private readonly Option<int> _seed = CommonOptions.Seed();
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly LoadFlags _load = new("auto");

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("generate", "Continue a prompt.")
        {
            _model, _prompt, _maxTokens, _temperature, _topK, _topP, _penalty, _stop, _ignoreEos, _seed, _json,
        };
        _load.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        GenerationOptions options = Options(parsed, cancellation);
        string[] prompts = [.. parsed.GetRequiredValue(_prompt).Select(prompt => prompt == "-" ? Console.In.ReadToEnd() : prompt)];
        using LoadedModel loaded = LoadedModel.Load(parsed.GetRequiredValue(_model), _load.Read(parsed));
        loaded.Warnings.ToList().ForEach(warning => Console.Error.WriteLine("warning: " + warning));
        using Generator generator = loaded.CreateGenerator(prompts, options);
        bool json = parsed.GetValue(_json);
        // One prompt streams; several would mix their words, so they are printed one after the other.
        bool stream = !json && prompts.Length == 1;
        Write(stream ? prompts[0] : string.Empty);
        foreach (GenerationStep step in generator.Run())
        {
            Write(stream ? step.Text : string.Empty);
        }

        if (json)
        {
            Output.Json(Document(loaded, prompts, generator, options));
            return;
        }

        Write(stream ? "\n" : string.Concat(prompts.Zip(generator.Results, (prompt, result) => $"{prompt}{result.Text}\n\n")));
        Console.Error.WriteLine(Summary(loaded, generator));
    }

    private GenerationOptions Options(ParseResult parsed, CancellationToken cancellation) => new()
    {
        MaxTokens = parsed.GetValue(_maxTokens),
        Temperature = parsed.GetValue(_temperature),
        TopK = parsed.GetValue(_topK),
        TopP = parsed.GetValue(_topP),
        RepetitionPenalty = parsed.GetValue(_penalty),
        Stop = parsed.GetValue(_stop) ?? [],
        IgnoreEos = parsed.GetValue(_ignoreEos),
        Seed = parsed.GetValue(_seed),
        Cancellation = cancellation,
    };

    private static void Write(string text)
    {
        if (text.Length > 0)
        {
            Console.Out.Write(text);
            Console.Out.Flush();
        }
    }

    private static object Document(LoadedModel loaded, string[] prompts, Generator generator, GenerationOptions options) => new
    {
        Schema = 1,
        Model = loaded.Path,
        Device = loaded.Backend.Name,
        Kernels = loaded.Backend.KernelVariant,
        loaded.Backend.Threads,
        Batch = prompts.Length,
        options.Seed,
        Settings = new { options.MaxTokens, options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty, options.Stop },
        Results = prompts.Zip(generator.Results, (prompt, result) => new
        {
            Prompt = prompt,
            result.Text,
            result.PromptTokens,
            GeneratedTokens = result.Tokens.Count,
            FinishReason = result.Finish.ToString().ToLowerInvariant(),
            result.Tokens,
        }),
        Metrics = new
        {
            TtftMs = generator.Timings.TimeToFirstToken.TotalMilliseconds,
            PrefillTokensPerSecond = Measured(generator.Timings.PrefillTokensPerSecond),
            DecodeTokensPerSecond = Measured(generator.Timings.DecodeTokensPerSecond),
        },
    };

    private static double? Measured(double value) => double.IsNaN(value) ? null : value;

    private static string Summary(LoadedModel loaded, Generator generator)
    {
        GenerationTimings timings = generator.Timings;
        string decode = double.IsNaN(timings.DecodeTokensPerSecond) ? string.Empty : $", {timings.DecodeTokensPerSecond:N0} tokens/s after it";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{generator.Results.Sum(row => row.Tokens.Count):N0} tokens; first after {timings.TimeToFirstToken.TotalMilliseconds:N0} ms{decode} ({loaded.Backend.Name} {loaded.Backend.KernelVariant}, {loaded.Backend.Threads} threads)");
    }
}
