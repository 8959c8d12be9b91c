using System.CommandLine;
using Nibble.Generation;

namespace Nibble.Cli;

/// <summary>The options of every verb that draws tokens, and what they say together.</summary>
internal sealed class SamplingFlags
{
    private readonly Option<int> _maxTokens;
    private readonly Option<double> _temperature, _topP;
    private readonly Option<int> _topK = new("--top-k") { Description = "Draw from the k most likely tokens only (0: all)." };
    private readonly Option<double> _minP = new("--min-p") { Description = "Draw from tokens of at least this share of the most likely one's probability only (0: all)." };
    private readonly Option<double> _penalty = new("--repetition-penalty") { Description = "Makes tokens that were seen less likely (1: off).", DefaultValueFactory = _ => 1 };
    private readonly Option<string[]> _stop = new("--stop") { Description = "End before this text; may be repeated." };
    private readonly Option<int> _seed = CommonOptions.Seed();

    /// <summary>The options, with the verb's own defaults.</summary>
    public SamplingFlags(int maxTokens, double temperature, double topP)
    {
        _maxTokens = new("--max-tokens") { Description = "Most new tokens.", DefaultValueFactory = _ => maxTokens };
        _temperature = new("--temperature") { Description = "0 takes the most likely token; 1 draws as the model says.", DefaultValueFactory = _ => temperature };
        _topP = new("--top-p") { Description = "Draw from the most likely tokens that make up this probability.", DefaultValueFactory = _ => topP };
    }

    /// <summary>Declares them.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _maxTokens, _temperature, _topK, _topP, _minP, _penalty, _stop, _seed })
        {
            command.Options.Add(option);
        }
    }

    /// <summary>What they say.</summary>
    public GenerationOptions Read(ParseResult parsed, CancellationToken cancellation) => new()
    {
        MaxTokens = parsed.GetValue(_maxTokens),
        Temperature = parsed.GetValue(_temperature),
        TopK = parsed.GetValue(_topK),
        TopP = parsed.GetValue(_topP),
        MinP = parsed.GetValue(_minP),
        RepetitionPenalty = parsed.GetValue(_penalty),
        Stop = parsed.GetValue(_stop) ?? [],
        Seed = parsed.GetValue(_seed),
        Cancellation = cancellation,
    };
}
