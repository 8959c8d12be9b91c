using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning.Merging;

/// <summary>
/// What rounding took from the merged layers, as a low-rank adapter: the largest singular parts of wanted − stored. It goes beside the
/// merged folder as any LoRA adapter does.
/// </summary>
internal sealed class Remainder(int rank, string baseModel, int seed, IBackend backend)
{
    private readonly List<LoraPair> _pairs = [];

    /// <summary>Adds a layer: its matrix as it should be becomes what its codes miss.</summary>
    public void Add(LinearSpec spec, Tensor wanted, Tensor stored)
    {
        Span<float> missing = wanted.HostSpan<float>(), values = stored.HostSpan<float>();
        for (int i = 0; i < missing.Length; i++)
        {
            missing[i] -= values[i];
        }

        LoraTarget target = new(spec, (int)Math.Min(rank, Math.Min(spec.Out, spec.In)), rank);
        (IPackedWeight a, IPackedWeight b) = LoraStart.LargestParts(wanted, target, Scale(target), CounterRandom.Key((ulong)seed), backend);
        _pairs.Add(new LoraPair(target, a, b, Scale(target)));
    }

    /// <summary>The adapter, which then owns what was added.</summary>
    public LoraAdapter Adapter()
    {
        if (_pairs.Any(pair => pair.Target.Rank != rank))
        {
            Throw.Usage($"--remainder-rank {rank} is too high", $"the smallest merged layer has {_pairs.Min(pair => pair.Target.Rank)} rows or columns", "choose a smaller rank");
        }

        return LoraAdapter.Of(_pairs, new LoraSettings { Rank = rank, Alpha = rank, BaseModel = baseModel }, backend);
    }

    private float Scale(LoraTarget target) => (float)rank / target.Rank;
}
