using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Quantization.Calibration;

namespace Nibble.Quantization.Gptq;

/// <summary>The damped Hessian of a layer, factored for <see cref="GptqSolver"/>.</summary>
internal static class DampedHessian
{
    /// <summary>What the authors add, as a share of the mean diagonal.</summary>
    public const float DefaultDamping = 0.01f;

    private const double MostDamping = 1;

    /// <summary>U of H⁻¹ = Uᵀ·U for the damped Hessian; damping is raised until H is positive definite.</summary>
    public static float[] Factor(GramStatistics gram, int[] order, double damping = DefaultDamping)
    {
        int n = gram.Columns;
        double mean = Enumerable.Range(0, n).Sum(i => gram.Gram[(i * (long)n) + i]) / n;
        for (double raised = damping; raised <= Math.Max(MostDamping, damping); raised *= 10)
        {
            double[] h = Damped(gram, order, raised * mean);
            if (InverseFactor.TryCompute(h, n, CpuThreads.Shared(CpuThreads.Choose(null))))
            {
                gram.RaisedDamping = raised > damping ? raised : null;
                return Array.ConvertAll(h, x => (float)x);
            }
        }

        Throw.Failed(
            $"{gram.Layer ?? "a layer"}: the Hessian is not positive definite, even with its mean diagonal added",
            $"{gram.Tokens:N0} tokens were seen, {gram.DeadInputs} of {n} inputs were always zero, the mean square of an input is {mean / Math.Max(1, gram.Tokens):G3}",
            "use more or other calibration text, or another method for this layer");
        return [];
    }

    private static double[] Damped(GramStatistics gram, int[] order, double added)
    {
        int n = gram.Columns;
        double[] h = new double[(long)n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                h[(i * (long)n) + j] = gram.Gram[(order[i] * (long)n) + order[j]];
            }

            // A dead input says nothing about its column: any positive number keeps the matrix regular.
            ref double diagonal = ref h[(i * (long)n) + i];
            diagonal = diagonal == 0 ? 1 : diagonal + added;
        }

        return h;
    }
}
