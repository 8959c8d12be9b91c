using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>The trained numbers beside one layer.</summary>
/// <param name="Target">The layer.</param>
/// <param name="A"><c>[rank, in]</c>.</param>
/// <param name="B"><c>[out, rank]</c>.</param>
/// <param name="Scale">The factor s of s·B·A.</param>
internal sealed record LoraPair(LoraTarget Target, IPackedWeight A, IPackedWeight B, float Scale)
{
    /// <summary>DoRA's magnitudes <c>[out]</c>, or null.</summary>
    public Tensor? Magnitude { get; init; }

    /// <summary>What stands for A and B at the start and is subtracted, so that the layer starts as the base (PiSSA); null for nothing.</summary>
    public (IPackedWeight A, IPackedWeight B)? Start { get; init; }

    /// <summary>The same matrices with <paramref name="weight"/> times their effect.</summary>
    public LoraPair Scaled(float weight) => this with { Scale = Scale * weight };

    public string NameA => Name(Target.Linear, "lora_A.weight");

    public string NameB => Name(Target.Linear, "lora_B.weight");

    public string NameMagnitude => Name(Target.Linear, "lora_magnitude_vector");

    public static string Name(LinearSpec linear, string part) => $"{PeftAdapter.Prefix}{linear.Path}.{part}";

    public IEnumerable<IDisposable> Untrained => Start is { } start ? [start.A, start.B] : [];
}
