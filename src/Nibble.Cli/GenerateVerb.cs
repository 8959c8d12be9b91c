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
    private readonly Option<bool> _ignoreEos = new("--ignore-eos") { Description = "Go on after a token that ends a text." };
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly SamplingFlags _sampling = new(maxTokens: 128, temperature: 0, topP: 1);
    private readonly LoadFlags _load = new("auto", keepsPacks: true);

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("generate", "Continue a prompt.")
        {
            _model, _prompt, _ignoreEos, _json,
        };
        _sampling.AddTo(command);
        _load.AddTo(command);
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        GenerationOptions options = _sampling.Read(parsed, cancellation) with { IgnoreEos = parsed.GetValue(_ignoreEos) };
        string[] prompts = [.. parsed.GetRequiredValue(_prompt).Select(prompt => prompt == "-" ? StandardInput.ReadToEnd() : prompt)];
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
        Console.Error.WriteLine(Summary(loaded, generator, options));
        LoadFlags.Tell(loaded.FinishPackCache());
    }

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
        Settings = new { options.MaxTokens, options.Temperature, options.TopK, options.TopP, options.MinP, options.RepetitionPenalty, options.Stop },
        Results = prompts.Zip(generator.Results, (prompt, result) => new
        {
            Prompt = prompt,
            result.Text,
            result.PromptTokens,
            GeneratedTokens = result.Tokens.Count,
            FinishReason = result.Finish.ToString().ToLowerInvariant(),
            result.Tokens,
        }),
        PackCache = loaded.FinishPackCache(),
        Metrics = new
        {
            TtftMs = generator.Timings.TimeToFirstToken.TotalMilliseconds,
            PrefillTokensPerSecond = Measured(generator.Timings.PrefillTokensPerSecond),
            DecodeTokensPerSecond = Measured(generator.Timings.DecodeTokensPerSecond),
        },
    };

    private static double? Measured(double value) => double.IsNaN(value) ? null : value;

    private static string Summary(LoadedModel loaded, Generator generator, GenerationOptions options)
    {
        // An end that was neither asked for nor the model's own choice is told.
        string full = generator.Results.Any(row => row.Finish == FinishReason.Length && row.Tokens.Count < options.MaxTokens) ? $"; the model's context of {loaded.Facts.Context:N0} tokens is full" : string.Empty;
        GenerationTimings timings = generator.Timings;
        string decode = double.IsNaN(timings.DecodeTokensPerSecond) ? string.Empty : $", {timings.DecodeTokensPerSecond:N0} tokens/s after it";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{generator.Results.Sum(row => row.Tokens.Count):N0} tokens; first after {timings.TimeToFirstToken.TotalMilliseconds:N0} ms{decode} ({loaded.Backend.Name} {loaded.Backend.KernelVariant}, {loaded.Backend.Threads} threads){full}");
    }
}
