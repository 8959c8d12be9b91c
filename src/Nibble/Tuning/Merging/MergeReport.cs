namespace Nibble.Tuning.Merging;

/// <summary>How well a model predicts the held-out rows.</summary>
/// <param name="Nll">Mean −log p of a scored token, in nats.</param>
/// <param name="Kl">Mean KL divergence of the predictions from those of base and adapter, in nats, on the first 4,096 scored tokens; null for what they are compared with.</param>
/// <param name="GainKept">Share of the adapter's gain in NLL over the base that is left; null where the adapter has none.</param>
public sealed record MergeQuality(double Nll, double? Kl, double? GainKept);

/// <summary>What a merge back into the quantized format did, measured on rows that were used neither for training nor for calibration.</summary>
/// <param name="HeldOutTokens">Scored tokens.</param>
/// <param name="CalibrationSamples">Samples that the Hessians are from.</param>
/// <param name="ChangedLayers">Layers whose codes changed.</param>
/// <param name="Base">The quantized base.</param>
/// <param name="Adapter">Base and adapter: what the merged model should equal.</param>
/// <param name="Naive">The adapter added and every weight rounded on its own.</param>
/// <param name="Merged">The written folder.</param>
/// <param name="Remainder">The written folder with its remainder adapter; null without one.</param>
public sealed record MergeReport(
    long HeldOutTokens, int CalibrationSamples, int ChangedLayers, MergeQuality Base, MergeQuality Adapter, MergeQuality Naive, MergeQuality Merged, MergeQuality? Remainder);
