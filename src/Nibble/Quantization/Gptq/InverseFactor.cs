using System.Numerics;
using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// The upper triangular U with H⁻¹ = Uᵀ·U that GPTQ walks along (arXiv 2210.17323, section 3, step 3). The authors invert H and
/// factor the inverse. Here H = R·Rᵀ with R upper triangular is found from the last column back, and U = R⁻¹: the same matrix,
/// from one factorization and one triangular inverse, without ever forming H⁻¹. All in double precision.
/// </summary>
internal static class InverseFactor
{
    // Rows of a panel: a panel of 4,096 columns and the tile it updates stay in a core's second-level cache.
    private const int Block = 64;

    /// <summary>
    /// Overwrites the upper triangle of symmetric <paramref name="h"/> <c>[n, n]</c> with U; the lower triangle becomes zero.
    /// False if H is not positive definite (its content is then undefined).
    /// </summary>
    public static bool TryCompute(double[] h, int n, CpuThreads threads)
    {
        if (!TryFactor(h, n, threads))
        {
            return false;
        }

        Invert(h, n, threads);
        for (int row = 1; row < n; row++)
        {
            Array.Clear(h, row * n, row);
        }

        return true;
    }

    /// <summary>H = R·Rᵀ, R upper triangular, in place; block columns from the last to the first.</summary>
    private static bool TryFactor(double[] h, int n, CpuThreads threads)
    {
        for (int end = n; end > 0; end -= Block)
        {
            int start = Math.Max(0, end - Block);
            if (!TryFactorDiagonal(h, n, start, end))
            {
                return false;
            }

            threads.Run(Parts(start), new SolvePanel(h, n, start, end));
            threads.Run(Parts(start), new UpdateLeading(h, n, start, end));
        }

        return true;
    }

    private static int Parts(int rows) => (rows + Block - 1) / Block;

    private static bool TryFactorDiagonal(double[] h, int n, int start, int end)
    {
        for (int j = end - 1; j >= start; j--)
        {
            double pivot = h[(j * n) + j];
            for (int k = j + 1; k < end; k++)
            {
                pivot -= h[(j * n) + k] * h[(j * n) + k];
            }

            if (!(pivot > 0) || double.IsInfinity(pivot))
            {
                return false;
            }

            double root = Math.Sqrt(pivot);
            h[(j * n) + j] = root;
            for (int i = start; i < j; i++)
            {
                h[(i * n) + j] = (h[(i * n) + j] - Dot(h, (i * n) + j + 1, (j * n) + j + 1, end - j - 1)) / root;
            }
        }

        return true;
    }

    /// <summary>R⁻¹ in place: row by row from the last; row i needs only the finished rows below it.</summary>
    private static void Invert(double[] r, int n, CpuThreads threads)
    {
        // Column blocks of the inverse are independent: block c solves R·X = I for its columns.
        double[] source = (double[])r.Clone();
        threads.Run(Parts(n), new InvertColumns(source, r, n));
    }

    /// <summary>Σ a[i]·b[i] over a row of the same array.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Dot(double[] values, int a, int b, int count)
    {
        Vector<double> sum = Vector<double>.Zero;
        int i = 0;
        for (; i <= count - Vector<double>.Count; i += Vector<double>.Count)
        {
            sum += new Vector<double>(values, a + i) * new Vector<double>(values, b + i);
        }

        double total = Vector.Sum(sum);
        for (; i < count; i++)
        {
            total += values[a + i] * values[b + i];
        }

        return total;
    }

    /// <summary>target[0..count) −= factor · source[0..count).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SubtractScaled(Span<double> target, ReadOnlySpan<double> source, double factor)
    {
        Vector<double> scale = new(factor);
        int i = 0;
        for (; i <= target.Length - Vector<double>.Count; i += Vector<double>.Count)
        {
            (new Vector<double>(target[i..]) - (scale * new Vector<double>(source[i..]))).CopyTo(target[i..]);
        }

        for (; i < target.Length; i++)
        {
            target[i] -= factor * source[i];
        }
    }

    /// <summary>R[rows, block] = H[rows, block] · R[block, block]⁻ᵀ for one run of rows above the diagonal block.</summary>
    private readonly struct SolvePanel(double[] h, int n, int start, int end) : ICpuJob
    {
        public void Execute(int part)
        {
            for (int i = part * Block; i < Math.Min(start, (part + 1) * Block); i++)
            {
                for (int j = end - 1; j >= start; j--)
                {
                    double sum = Dot(h, (i * n) + j + 1, (j * n) + j + 1, end - j - 1);
                    h[(i * n) + j] = (h[(i * n) + j] - sum) / h[(j * n) + j];
                }
            }
        }
    }

    /// <summary>H[i, j] −= R[i, block]·R[j, block] for i ≤ j above the block: the symmetric update of what is still to be factored.</summary>
    private readonly struct UpdateLeading(double[] h, int n, int start, int end) : ICpuJob
    {
        public void Execute(int part)
        {
            for (int i = part * Block; i < Math.Min(start, (part + 1) * Block); i++)
            {
                for (int j = i; j < start; j++)
                {
                    h[(i * n) + j] -= Dot(h, (i * n) + start, (j * n) + start, end - start);
                }
            }
        }
    }

    /// <summary>Columns of one block of R⁻¹ by back substitution, all columns of the block at once.</summary>
    private readonly struct InvertColumns(double[] source, double[] inverse, int n) : ICpuJob
    {
        public void Execute(int part)
        {
            int first = part * Block;
            int last = Math.Min(n, first + Block);
            for (int i = last - 1; i >= 0; i--)
            {
                Span<double> row = inverse.AsSpan((i * n) + first, last - first);
                row.Clear();
                if (i >= first)
                {
                    row[i - first] = 1;
                }

                for (int k = i + 1; k < last; k++)
                {
                    SubtractScaled(row, inverse.AsSpan((k * n) + first, last - first), source[(i * n) + k]);
                }

                double scale = 1 / source[(i * n) + i];
                for (int j = 0; j < row.Length; j++)
                {
                    row[j] *= scale;
                }
            }
        }
    }
}
