using System.Numerics;
using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// GPTQ's inner loop (arXiv 2210.17323, algorithm 1): columns are rounded one after another, and the error of each is spread over
/// the columns that are still free, weighted by the inverse Hessian. Within a block of columns at once; what all its columns ask
/// of those behind it is added up by one matrix product (the paper's lazy batch updates). Results do not depend on the number of threads.
/// </summary>
/// <param name="factor">U of <see cref="DampedHessian"/>, F32 <c>[columns, columns]</c>, in the order in which columns are visited.</param>
/// <param name="columns">Input features.</param>
internal sealed class GptqSolver(float[] factor, int columns)
{
    // Columns of a block: its part of U takes a quarter of the second-level cache, and the product behind it has depth enough.
    private const int BlockColumns = 128;

    // Rows that go through a block together: their remainders and one row of U stay in the first-level cache.
    private const int RowsPerPart = 8;

    /// <summary>
    /// Quantizes <paramref name="weights"/> <c>[rows, columns]</c> (columns in visiting order), which is overwritten with the
    /// remainders. Codes come in visiting order.
    /// </summary>
    /// <returns>Σ of the squared, Hessian-weighted errors, half of what GPTQ calls the loss.</returns>
    public double Solve(float[] weights, int rows, byte[] codes, IColumnRounder rounder, CpuThreads threads)
    {
        CpuVariant variant = CpuVariant.Choose();
        int parts = (rows + RowsPerPart - 1) / RowsPerPart;
        double[] losses = new double[parts];
        float[] errors = new float[rows * BlockColumns];
        for (int start = 0; start < columns;)
        {
            int end = Math.Min(columns, End(start, rounder.Reach));
            threads.Run(parts, new RoundJob(this, new(weights, rows, codes, errors, start, end), rounder, losses));
            SpreadBehind(variant, threads, weights, rows, errors, start, end);
            start = end;
        }

        return losses.Sum();
    }

    /// <summary>Where a block ends: a grid is found from current values, so that a group lies in one block or begins with one.</summary>
    internal static int End(int start, int reach) => reach >= BlockColumns
        ? Math.Min(start + BlockColumns, ((start / reach) + 1) * reach)
        : start + (BlockColumns / reach * reach);

    /// <summary>w[all rows, end …] −= errors · U[start … end, end …]; the errors are negative already.</summary>
    private unsafe void SpreadBehind(CpuVariant variant, CpuThreads threads, float[] weights, int rows, float[] errors, int start, int end)
    {
        if (end == columns)
        {
            return;
        }

        fixed (float* u = factor, w = weights, e = errors)
        {
            variant.Multiply(threads, new()
            {
                A = e, ARow = BlockColumns, AStep = 1, B = u + ((nint)start * columns) + end, BRow = columns, C = w + end, CRow = columns,
                Rows = rows, Columns = columns - end, Depth = end - start,
            });
        }
    }

    private double RoundRows(in Block block, int first, IColumnRounder rounder)
    {
        double loss = 0;
        int last = Math.Min(block.Rows, first + RowsPerPart);
        for (int column = block.Start; column < block.End; column++)
        {
            float pivot = factor[(column * columns) + column];
            ReadOnlySpan<float> line = factor.AsSpan((column * columns) + column + 1, block.End - column - 1);
            for (int row = first; row < last; row++)
            {
                int at = (row * columns) + column;
                block.Codes[at] = rounder.Round(block.Weights, row, column, out float value);
                float error = (value - block.Weights[at]) / pivot;
                block.Errors[(row * BlockColumns) + column - block.Start] = error;
                loss += (double)error * error;
                AddScaled(line, error, block.Weights.AsSpan(at + 1, line.Length));
            }
        }

        return loss;
    }

    /// <summary>target += source · factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddScaled(ReadOnlySpan<float> source, float factor, Span<float> target)
    {
        Vector<float> scale = new(factor);
        int i = 0;
        for (; i <= source.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.FusedMultiplyAdd(scale, new Vector<float>(source[i..]), new Vector<float>(target[i..])).CopyTo(target[i..]);
        }

        for (; i < source.Length; i++)
        {
            target[i] = MathF.FusedMultiplyAdd(factor, source[i], target[i]);
        }
    }

    private readonly record struct Block(float[] Weights, int Rows, byte[] Codes, float[] Errors, int Start, int End);

    private readonly struct RoundJob(GptqSolver solver, Block block, IColumnRounder rounder, double[] losses) : ICpuJob
    {
        public void Execute(int part) => losses[part] += solver.RoundRows(block, part * RowsPerPart, rounder);
    }
}
