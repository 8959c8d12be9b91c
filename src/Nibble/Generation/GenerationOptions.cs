using Nibble.IO;

namespace Nibble.Generation;

/// <summary>How text is generated. The defaults choose the most likely token each time.</summary>
public sealed record GenerationOptions
{
    /// <summary>Most new tokens.</summary>
    public int MaxTokens { get; init; } = 128;

    /// <summary>Divides the logits; 0 takes the most likely token.</summary>
    public double Temperature { get; init; }

    /// <summary>Only the k most likely tokens are drawn from; 0 for all.</summary>
    public int TopK { get; init; }

    /// <summary>Only the most likely tokens that together have this probability are drawn from (nucleus sampling, arXiv 1904.09751); 1 for all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Only tokens of at least this share of the most likely one's probability, at the temperature, are drawn from (arXiv 2407.01082); 0 for all.</summary>
    public double MinP { get; init; }

    /// <summary>Logits of tokens that were seen are divided by it, or multiplied if negative (CTRL, arXiv 1909.05858, section 4.1); 1 for none.</summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Subtracted from the logits of tokens that were generated (not of the prompt's); 0 for none.</summary>
    public double PresencePenalty { get; init; }

    /// <summary>Subtracted from a token's logit for each time that it was generated; 0 for none.</summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>Added to the logits of tokens.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = new Dictionary<int, float>();

    /// <summary>Steps carry log p of their token and of this many most likely ones; null for none. They are the model's own: before penalties, temperature and cuts.</summary>
    public int? TopLogProbabilities { get; init; }

    /// <summary>Generation ends before any of these texts.</summary>
    public IReadOnlyList<string> Stop { get; init; } = [];

    /// <summary>The n-th new token of a row depends on this and n alone, so a batch gives what its rows give alone.</summary>
    public long Seed { get; init; } = 1234;

    /// <summary>Goes on after a token that ends a text.</summary>
    public bool IgnoreEos { get; init; }

    /// <summary>Ends generation between two tokens.</summary>
    public CancellationToken Cancellation { get; init; }

    /// <summary>Refuses values that make no sense.</summary>
    internal void Require()
    {
        Require(MaxTokens >= 1, "--max-tokens", MaxTokens, "at least 1");
        Require(Temperature >= 0 && double.IsFinite(Temperature), "--temperature", Temperature, "0 (greedy) or above");
        Require(TopK >= 0, "--top-k", TopK, "0 (all) or above");
        Require(TopP is > 0 and <= 1, "--top-p", TopP, "above 0, at most 1");
        Require(MinP is >= 0 and <= 1, "--min-p", MinP, "0 (all) to 1");
        Require(RepetitionPenalty > 0 && double.IsFinite(RepetitionPenalty), "--repetition-penalty", RepetitionPenalty, "above 0; 1 for none");
        Require(double.IsFinite(PresencePenalty), "presence penalty", PresencePenalty, "a number; 0 for none");
        Require(double.IsFinite(FrequencyPenalty), "frequency penalty", FrequencyPenalty, "a number; 0 for none");
        Require(LogitBias.Values.All(float.IsFinite), "logit bias", "NaN or infinity", "a number");
        Require(TopLogProbabilities is null or >= 0, "top log probabilities", TopLogProbabilities ?? 0, "0 or above");
        Require(Stop.All(text => text.Length > 0), "--stop", "\"\"", "a text of at least one character");
    }

    private static void Require(bool ok, string option, object value, string range)
    {
        if (!ok)
        {
            Throw.Usage(FormattableString.Invariant($"{option} {value} makes no sense"), $"it must be {range}");
        }
    }
}
