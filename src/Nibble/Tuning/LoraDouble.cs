using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// A trained pair less its start as one plain pair of twice the rank on the unchanged base, as PEFT converts PiSSA:
/// s·(B·A − B₀·A₀) = s·[B, −B₀]·[A; A₀].
/// </summary>
internal static class LoraDouble
{
    /// <summary>The settings of the doubled adapter, with the same factor.</summary>
    public static LoraSettings Settings(LoraSettings settings)
    {
        double growth = settings.UseRsLora ? Math.Sqrt(2) : 2;
        return settings with
        {
            Rank = 2 * settings.Rank,
            Alpha = growth * settings.Alpha,
            RankPattern = settings.RankPattern.ToDictionary(item => item.Key, item => 2 * item.Value),
            AlphaPattern = settings.AlphaPattern.ToDictionary(item => item.Key, item => growth * item.Value),
        };
    }

    /// <summary>The tensors of a pair; the caller disposes them.</summary>
    public static IEnumerable<(string Name, Tensor Tensor)> Tensors(LoraPair pair, IBackend backend)
    {
        (IPackedWeight startA, IPackedWeight startB) = pair.Start!.Value;
        int rank = (int)pair.A.Out;
        Tensor a = Tensor.OnHost(new Shape(2 * rank, pair.A.In), DType.F32), b = Tensor.OnHost(new Shape(pair.B.Out, 2 * rank), DType.F32);
        using (Tensor above = ParameterRows.Dense(backend, pair.A), below = ParameterRows.Dense(backend, startA))
        {
            above.HostSpan<float>().CopyTo(a.HostSpan<float>());
            below.HostSpan<float>().CopyTo(a.HostSpan<float>()[(int)above.Shape.Count..]);
        }

        using (Tensor left = ParameterRows.Dense(backend, pair.B), right = ParameterRows.Dense(backend, startB))
        {
            for (int row = 0; row < (int)b.Shape[0]; row++)
            {
                Span<float> target = b.Slice(row, 1).HostSpan<float>();
                left.Slice(row, 1).HostSpan<float>().CopyTo(target);
                for (int r = 0; r < rank; r++)
                {
                    target[rank + r] = -right.HostSpan<float>()[(row * rank) + r];
                }
            }
        }

        return [(pair.NameA, a), (pair.NameB, b)];
    }
}
