using System.Numerics;
using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// GPTQ's inner loop (arXiv 2210.17323, algorithm 1): columns are rounded one after another, and the error of each is spread over
/// the columns that are still free, weighted by the inverse Hessian. Rows are independent, so each part takes a few rows through
/// all columns: the factor's row is read once for all of them. Results do not depend on the number of threads.
/// </summary>
/// <param name="factor">U of <see cref="InverseFactor"/>, F32 <c>[columns, columns]</c>, in the order in which columns are visited.</param>
/// <param name="columns">Input features.</param>
internal sealed class GptqSolver(float[] factor, int columns)
{
    // Rows that go through the columns together: their remainders and one row of U share the cache.
    private const int RowsPerPart = 8;

    /// <summary>
    /// Quantizes <paramref name="weights"/> <c>[rows, columns]</c> (columns in visiting order), which is overwritten with the
    /// remainders. Codes come in visiting order.
    /// </summary>
    /// <returns>Σ of the squared, Hessian-weighted errors, half of what GPTQ calls the loss.</returns>
    public double Solve(float[] weights, int rows, byte[] codes, IColumnRounder rounder, CpuThreads threads)
    {
        int parts = (rows + RowsPerPart - 1) / RowsPerPart;
        double[] losses = new double[parts];
        threads.Run(parts, new Job(this, weights, rows, codes, rounder, losses));
        return losses.Sum();
    }

    private double SolveRows(float[] weights, int first, int last, byte[] codes, IColumnRounder rounder)
    {
        double loss = 0;
        Span<float> errors = stackalloc float[RowsPerPart];
        for (int column = 0; column < columns; column++)
        {
            float pivot = factor[(column * columns) + column];
            for (int row = first; row < last; row++)
            {
                int at = (row * columns) + column;
                codes[at] = rounder.Round(weights, row, column, out float value);
                float error = (weights[at] - value) / pivot;
                errors[row - first] = error;
                loss += (double)error * error;
            }

            Spread(weights, first, last, column, errors);
        }

        return loss;
    }

    /// <summary>w[row, column + 1 …] −= error[row] · U[column, column + 1 …].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Spread(float[] weights, int first, int last, int column, ReadOnlySpan<float> errors)
    {
        int begin = column + 1;
        int count = columns - begin;
        ReadOnlySpan<float> line = factor.AsSpan((column * columns) + begin, count);
        for (int row = first; row < last; row++)
        {
            Span<float> rest = weights.AsSpan((row * columns) + begin, count);
            Vector<float> error = new(errors[row - first]);
            int i = 0;
            for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
            {
                Vector.FusedMultiplyAdd(-error, new Vector<float>(line[i..]), new Vector<float>(rest[i..])).CopyTo(rest[i..]);
            }

            for (; i < count; i++)
            {
                rest[i] -= errors[row - first] * line[i];
            }
        }
    }

    private readonly struct Job(GptqSolver solver, float[] weights, int rows, byte[] codes, IColumnRounder rounder, double[] losses) : ICpuJob
    {
        public void Execute(int part)
        {
            int first = part * RowsPerPart;
            losses[part] = solver.SolveRows(weights, first, Math.Min(rows, first + RowsPerPart), codes, rounder);
        }
    }
}
