using Nibble.Models;

namespace Nibble.Quantization;

/// <summary>What a plan does with one matrix.</summary>
/// <param name="Spec">The matrix.</param>
/// <param name="Settings">Complete settings; null keeps the matrix dense.</param>
/// <param name="Facts">What the quantized weight will be; null if the matrix stays dense.</param>
/// <param name="Reason">Why: the default, an override, the role.</param>
public sealed record PlannedTensor(LinearSpec Spec, QuantizationSettings? Settings, WeightFacts? Facts, string Reason)
{
    /// <summary>Elements of the matrix.</summary>
    public long Count => (long)Spec.Out * Spec.In;
}
