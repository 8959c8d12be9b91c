using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Quantization.Calibration;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// The damped Hessian of a layer, factored for <see cref="GptqSolver"/>: in single precision where that is exact enough, else in double,
/// and with more damping where H is not positive definite at all.
/// </summary>
internal static class DampedHessian
{
    /// <summary>What the authors add, as a share of the mean diagonal.</summary>
    public const float DefaultDamping = 0.01f;

    private const double MostDamping = 1;

    /// <summary>U of H⁻¹ = Uᵀ·U for the damped Hessian; damping is raised until H is positive definite.</summary>
    public static float[] Factor(GramStatistics gram, int[] order, double damping = DefaultDamping)
    {
        using PhaseTimes.Scope? scope = gram.Times?.In("factor");
        CpuThreads threads = CpuThreads.Shared(CpuThreads.Choose(null));
        return Factor(gram, damping, added => InSingle(gram, order, added, threads) ?? InDouble(gram, order, added, threads));
    }

    /// <summary>The first factorization that succeeds, with ever more added to the diagonal.</summary>
    /// <param name="gram">The layer's statistics, which are told how much it took.</param>
    /// <param name="damping">The share to begin with.</param>
    /// <param name="attempt">Factors with this added to the diagonal; null if the matrix is not positive definite.</param>
    internal static T Factor<T>(GramStatistics gram, double damping, Func<double, T?> attempt)
        where T : class
    {
        double mean = gram.Diagonal.Sum() / gram.Columns;
        for (double raised = damping; raised <= Math.Max(MostDamping, damping); raised = raised == 0 ? DefaultDamping : raised * 10)
        {
            if (attempt(raised * mean) is { } factor)
            {
                gram.RaisedDamping = raised > damping ? raised : null;
                return factor;
            }
        }

        Throw.Failed(
            $"{gram.Layer ?? "a layer"}: the Hessian is not positive definite, even with its mean diagonal added",
            $"{gram.Tokens:N0} tokens were seen, {gram.DeadInputs} of {gram.Columns} inputs were always zero, the mean square of an input is {mean / Math.Max(1, gram.Tokens):G3}",
            "use more or other calibration text, or another method for this layer");
        return null!;
    }

    /// <summary>The factor in single precision; null where that is not exact enough.</summary>
    internal static float[]? InSingle(GramStatistics gram, int[] order, double added, CpuThreads threads)
    {
        // With rows and columns in reverse order, UᵀU of the reversed matrix is what R·Rᵀ of InverseFactor is of H.
        int n = gram.Columns;
        float[] h = new float[(long)n * n];
        threads.Run(n, new GatherJob<float>(gram, [.. order.Reverse()], added, h));
        if (!SingleInverseFactor.TryCompute(h, n, CpuVariant.Choose(), threads))
        {
            return null;
        }

        threads.Run((n + FlipJob.Tile - 1) / FlipJob.Tile, new FlipJob(h, n));
        return h;
    }

    private static float[]? InDouble(GramStatistics gram, int[] order, double added, CpuThreads threads)
    {
        int n = gram.Columns;
        double[] h = new double[(long)n * n];
        threads.Run(n, new GatherJob<double>(gram, order, added, h));
        return InverseFactor.TryCompute(h, n, threads) ? Array.ConvertAll(h, x => (float)x) : null;
    }

    /// <summary>One row of H in the order of visiting.</summary>
    private readonly struct GatherJob<T>(GramStatistics gram, int[] order, double added, T[] h) : ICpuJob
        where T : struct, System.Numerics.INumber<T>
    {
        public void Execute(int row)
        {
            int n = gram.Columns;
            ReadOnlySpan<double> source = gram.Gram.AsSpan(order[row] * n, n);
            Span<T> target = h.AsSpan(row * n, n);
            for (int j = 0; j < n; j++)
            {
                target[j] = T.CreateTruncating(source[order[j]]);
            }

            // A dead input says nothing about its column: any positive number keeps the matrix regular.
            double diagonal = source[order[row]];
            target[row] = T.CreateTruncating(diagonal == 0 ? 1 : diagonal + added);
        }
    }

    /// <summary>Mirrors the upper triangle at the other diagonal, some rows at a time, and clears the lower one.</summary>
    private readonly struct FlipJob(float[] h, int n) : ICpuJob
    {
        public const int Tile = 32;

        public void Execute(int part)
        {
            int first = part * Tile, last = Math.Min(n, first + Tile);
            for (int column = first; column < n - 1 - first; column += Tile)
            {
                for (int i = first; i < last; i++)
                {
                    // Elements above both diagonals; each changes places with one below the other diagonal.
                    int end = Math.Min(column + Tile, n - 1 - i);
                    for (int j = Math.Max(i, column); j < end; j++)
                    {
                        ref float here = ref h[(i * n) + j], there = ref h[((n - 1 - j) * n) + n - 1 - i];
                        (here, there) = (there, here);
                    }
                }
            }

            for (int i = first; i < last; i++)
            {
                Array.Clear(h, i * n, i);
            }
        }
    }
}
