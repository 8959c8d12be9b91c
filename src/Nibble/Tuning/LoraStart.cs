using Nibble.Backends;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>What A, B and the magnitudes are before the first step.</summary>
internal static class LoraStart
{
    /// <summary>A: uniform in ±1/√in.</summary>
    public static IPackedWeight Kaiming(LoraTarget target, ulong seed, IBackend backend)
    {
        using Tensor a = Tensor.OnHost(new Shape(target.Rank, target.Linear.In), DType.F32);
        ulong key = CounterRandom.Key(seed, CounterRandom.Key(target.Linear.Path));
        double bound = 1 / Math.Sqrt(target.Linear.In);
        Span<float> values = a.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(((2 * CounterRandom.Uniform(key, (ulong)i)) - 1) * bound);
        }

        return backend.Prepare(a);
    }

    /// <summary>B: zero.</summary>
    public static IPackedWeight Zero(LoraTarget target, IBackend backend)
    {
        using Tensor b = Tensor.OnHost(new Shape(target.Linear.Out, target.Rank), DType.F32);
        return backend.Prepare(b);
    }

    /// <summary>DoRA's magnitudes: the norms of the base's rows.</summary>
    public static Tensor Magnitudes(IPackedWeight weight, IBackend backend)
    {
        float[] norms = [.. DoraNorms.SquaresOfRows(backend, weight).Select(square => (float)Math.Sqrt(square))];
        Tensor magnitudes = backend.Allocate(new Shape(norms.Length), DType.F32);
        backend.Write<float>(norms, magnitudes);
        return magnitudes;
    }

    /// <summary>A and B whose product, times the factor, is the best approximation of a matrix of their rank; both share the singular values.</summary>
    public static (IPackedWeight A, IPackedWeight B) LargestParts(Tensor matrix, LoraTarget target, float scale, ulong seed, IBackend backend)
    {
        TruncatedSvd svd = TruncatedSvd.Of(matrix, target.Rank, CounterRandom.Key(seed, CounterRandom.Key(target.Linear.Path)));
        int known = svd.Values.Length;
        using Tensor a = Tensor.OnHost(new Shape(target.Rank, target.Linear.In), DType.F32), b = Tensor.OnHost(new Shape(target.Linear.Out, target.Rank), DType.F32);
        for (int r = 0; r < known; r++)
        {
            double root = Math.Sqrt(svd.Values[r] / scale);
            Span<float> right = a.Slice(r, 1).HostSpan<float>(), left = b.HostSpan<float>();
            for (int k = 0; k < right.Length; k++)
            {
                right[k] = (float)(root * svd.Right[(r * right.Length) + k]);
            }

            for (int i = 0; i < (int)target.Linear.Out; i++)
            {
                left[(i * target.Rank) + r] = (float)(root * svd.Left[(i * known) + r]);
            }
        }

        return (backend.Prepare(a), backend.Prepare(b));
    }

    /// <summary>A copy of a packing.</summary>
    public static IPackedWeight Copy(IPackedWeight weight, IBackend backend)
    {
        using Tensor values = ParameterRows.Dense(backend, weight);
        return backend.Prepare(values);
    }
}
