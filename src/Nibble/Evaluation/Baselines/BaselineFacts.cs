namespace Nibble.Evaluation.Baselines;

/// <summary>What a baseline was measured on; another measurement compares with it only if all of this is equal.</summary>
/// <param name="Schema">Version of the form.</param>
/// <param name="Protocol">Id of the protocol.</param>
/// <param name="Data">Fingerprint of the text.</param>
/// <param name="Tokenizer">Fingerprint of the tokenizer.</param>
/// <param name="ScoredTokens">Tokens with a stored loss.</param>
/// <param name="LogitTokens">Tokens with stored logits: the first ones.</param>
/// <param name="Vocabulary">Logits of each.</param>
public sealed record BaselineFacts(int Schema, string Protocol, string Data, string Tokenizer, int ScoredTokens, int LogitTokens, int Vocabulary)
{
    /// <summary>Most tokens whose logits are stored.</summary>
    public const int MostLogitTokens = 4096;

    internal const string FactsFile = "baseline.json";
    internal const string LossesFile = "losses.f32";
    internal const string LogitsFile = "logits.f16";

    /// <summary>The facts of a measurement.</summary>
    public static BaselineFacts Of(string protocol, string data, string tokenizer, int scoredTokens, int vocabulary) =>
        new(1, protocol, data, tokenizer, scoredTokens, Math.Min(scoredTokens, MostLogitTokens), vocabulary);
}
