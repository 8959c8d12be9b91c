using Nibble.Formats;
using Nibble.Models;

namespace Nibble.Quantization.Awq;

/// <summary>A place where factors may move, and what the plan makes of it.</summary>
/// <param name="Fold">The place.</param>
/// <param name="Obstacle">Why no factor moves there; null if one does.</param>
public sealed record PlannedFold(ActivationFold Fold, string? Obstacle)
{
    /// <summary>The names that the divided vectors have, if they exist.</summary>
    internal IEnumerable<string> Vectors => Obstacle is not null ? [] : Fold.IsNorm ? [Fold.Source + ".weight", Fold.Source + ".bias"] : [Fold.Source + ".bias"];

    /// <summary>The folds of a plan whose layers are scaled.</summary>
    internal static IReadOnlyList<PlannedFold> Of(IArchitecture architecture, ModelConfig config, IReadOnlyList<PlannedTensor> tensors)
    {
        Dictionary<string, PlannedTensor> planned = tensors.ToDictionary(tensor => tensor.Spec.Path);
        return [.. architecture.Folds(config)
            .Where(fold => fold.Layers.Any(path => IsScaled(planned[path])))
            .Select(fold => new PlannedFold(fold, fold.Obstacle ?? ObstacleOf(fold, planned)))];
    }

    private static bool IsScaled(PlannedTensor tensor) => tensor.Settings is not null && Registry.Method(tensor.Settings.Method).ScalesInputs;

    private static string? ObstacleOf(ActivationFold fold, Dictionary<string, PlannedTensor> planned)
    {
        if (fold.Layers.FirstOrDefault(path => !IsScaled(planned[path])) is { } other)
        {
            return $"{other} reads the same input and is {planned[other].Settings?.Method ?? "dense"}";
        }

        // A dense matrix would have to be rounded to its dtype again.
        return !fold.IsNorm && planned[fold.Source].Settings is null ? $"{fold.Source} stays dense" : null;
    }
}
