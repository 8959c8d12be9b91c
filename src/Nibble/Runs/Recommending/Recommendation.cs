using Nibble.Evaluation;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Recommending;

/// <summary>One form of a model: what it takes, and what was measured of it.</summary>
/// <param name="Method">The form.</param>
/// <param name="Memory">What running it takes; its weights as measured, where it was.</param>
/// <param name="Fits">Whether that is within what was given.</param>
/// <param name="Quantize">Arguments of <c>nibble</c> that write it, without the output; empty for the model as it is.</param>
/// <param name="Result">What was measured; null if it was not.</param>
/// <param name="LeftOut">Why it was not measured; null if it was.</param>
public sealed record RecommendCandidate(StudyMethod Method, RunningMemory Memory, bool Fits, IReadOnlyList<string> Quantize, ResultDocument? Result = null, string? LeftOut = null)
{
    /// <summary>Perplexity over the model's own.</summary>
    public double? Loss => Method.IsBaseline ? 1 : Result?.Metrics.TryGetValue("perplexity_ratio", out double ratio) == true ? ratio : null;

    /// <summary>The paired 95 % interval of <see cref="Loss"/>.</summary>
    public (double Low, double High)? LossInterval => Method.IsBaseline ? (1, 1) : Result?.Intervals.TryGetValue("perplexity_ratio", out double[]? ends) == true ? (ends[0], ends[1]) : null;

    /// <summary>Tokens a second of one text.</summary>
    public double? Speed => Result?.Metrics.TryGetValue("decode_tokens_per_second", out double speed) == true ? speed : null;
}

/// <summary>What was found for a model and a memory.</summary>
/// <param name="Request">What was asked.</param>
/// <param name="Context">Tokens that room is made for.</param>
/// <param name="Candidates">All forms, the measured ones with their numbers.</param>
/// <param name="Choices">The best form by each preference; without an entry where none is good enough.</param>
public sealed record Recommendation(
    RecommendRequest Request, int Context, IReadOnlyList<RecommendCandidate> Candidates, IReadOnlyDictionary<Preference, RecommendCandidate> Choices)
{
    /// <summary>The form that was asked for; null if none fits and is good enough.</summary>
    public RecommendCandidate? Chosen => Choices.GetValueOrDefault(Request.Prefer);

    /// <summary>Chooses among what was measured and fits.</summary>
    internal static Recommendation Of(RecommendRequest request, int context, IReadOnlyList<RecommendCandidate> candidates)
    {
        RecommendCandidate[] fitting = [.. candidates.Where(candidate => candidate is { Fits: true, Loss: not null, LossInterval: not null })];
        RecommendCandidate[] cheap = [.. fitting.Where(candidate => candidate.LossInterval!.Value.High <= request.MaxLoss)];
        Dictionary<Preference, RecommendCandidate> choices = [];
        if (fitting.MinBy(candidate => candidate.Loss) is { } best)
        {
            // What can't be told from the best is as good, and the smallest of those is better.
            choices[Preference.Quality] = fitting.Where(candidate => candidate.LossInterval!.Value.Low <= best.LossInterval!.Value.High && candidate.Loss <= request.MaxLoss * best.Loss).MinBy(candidate => candidate.Memory.TotalBytes) ?? best;
        }

        if (cheap.MinBy(candidate => candidate.Memory.TotalBytes) is { } smallest)
        {
            choices[Preference.Size] = smallest;
        }

        if (cheap.Where(candidate => candidate.Speed is not null).MaxBy(candidate => candidate.Speed) is { } fastest)
        {
            choices[Preference.Speed] = fastest;
        }

        return new Recommendation(request, context, candidates, choices);
    }
}
