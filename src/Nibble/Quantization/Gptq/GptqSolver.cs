using System.Numerics;
using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>One group's grid: w = (q − Zero) · Scale, q = 0 … Levels.</summary>
internal readonly record struct Grid(float Scale, float Zero, int Levels)
{
    /// <summary>The nearest code to <paramref name="value"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Code(float value) => (int)Math.Clamp(MathF.Round((value / Scale) + Zero), 0, Levels);

    /// <summary>The value of a code.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Value(int code) => (code - Zero) * Scale;
}

/// <summary>Finds the grid of a group of weights.</summary>
internal delegate Grid GridFinder(ReadOnlySpan<float> group);

/// <summary>
/// GPTQ's inner loop (arXiv 2210.17323, algorithm 1): columns are rounded one after another, and the error of each is spread over
/// the columns that are still free, weighted by the inverse Hessian. Rows are independent, so each part takes a few rows through
/// all columns: the factor's row is read once for all of them. Results do not depend on the number of threads.
/// </summary>
internal sealed class GptqSolver
{
    // Rows that go through the columns together: their remainders and one row of U share the cache.
    private const int RowsPerPart = 8;

    private readonly float[] _factor;
    private readonly int _columns;
    private readonly int _groupSize;
    private readonly GridFinder _find;
    private readonly Grid[]? _staticGrids;
    private readonly int[]? _groupOfColumn;

    /// <summary>Creates a solver for matrices of <paramref name="columns"/> input features.</summary>
    /// <param name="factor">U of <see cref="InverseFactor"/>, F32 <c>[columns, columns]</c>, in the order in which columns are visited.</param>
    /// <param name="columns">Input features.</param>
    /// <param name="groupSize">Columns that share a grid, in visiting order; a grid is found when its first column comes up.</param>
    /// <param name="find">Finds a grid from the group's current values.</param>
    /// <param name="staticGrids">Grids found beforehand, <c>[row · groups + group]</c> (static groups); null to find them on the way.</param>
    /// <param name="groupOfColumn">With static grids: the group of each visited column.</param>
    public GptqSolver(float[] factor, int columns, int groupSize, GridFinder find, Grid[]? staticGrids = null, int[]? groupOfColumn = null)
    {
        _factor = factor;
        _columns = columns;
        _groupSize = groupSize;
        _find = find;
        _staticGrids = staticGrids;
        _groupOfColumn = groupOfColumn;
    }

    private int Groups => (_columns + _groupSize - 1) / _groupSize;

    /// <summary>
    /// Quantizes <paramref name="weights"/> <c>[rows, columns]</c> (columns in visiting order), which is overwritten with the
    /// remainders. Codes come in visiting order; grids are <c>[row · groups + group]</c>.
    /// </summary>
    /// <returns>Σ of the squared, Hessian-weighted errors, half of what GPTQ calls the loss.</returns>
    public double Solve(float[] weights, int rows, byte[] codes, Grid[] grids, CpuThreads threads)
    {
        int parts = (rows + RowsPerPart - 1) / RowsPerPart;
        double[] losses = new double[parts];
        threads.Run(parts, new Job(this, weights, rows, codes, grids, losses));
        return losses.Sum();
    }

    private double SolveRows(float[] weights, int first, int last, byte[] codes, Grid[] grids)
    {
        double loss = 0;
        Span<float> errors = stackalloc float[RowsPerPart];
        for (int column = 0; column < _columns; column++)
        {
            float pivot = _factor[(column * _columns) + column];
            for (int row = first; row < last; row++)
            {
                Grid grid = GridOf(weights, row, column, grids);
                int at = (row * _columns) + column;
                int code = grid.Code(weights[at]);
                codes[at] = (byte)code;
                float error = (weights[at] - grid.Value(code)) / pivot;
                errors[row - first] = error;
                loss += (double)error * error;
            }

            Spread(weights, first, last, column, errors);
        }

        return loss;
    }

    private Grid GridOf(float[] weights, int row, int column, Grid[] grids)
    {
        if (_staticGrids is not null)
        {
            return _staticGrids[(row * Groups) + _groupOfColumn![column]];
        }

        ref Grid grid = ref grids[(row * Groups) + (column / _groupSize)];
        if (column % _groupSize == 0)
        {
            int length = Math.Min(_groupSize, _columns - column);
            grid = _find(weights.AsSpan((row * _columns) + column, length));
        }

        return grid;
    }

    /// <summary>w[row, column + 1 …] −= error[row] · U[column, column + 1 …].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Spread(float[] weights, int first, int last, int column, ReadOnlySpan<float> errors)
    {
        int begin = column + 1;
        int count = _columns - begin;
        ReadOnlySpan<float> factor = _factor.AsSpan((column * _columns) + begin, count);
        for (int row = first; row < last; row++)
        {
            Span<float> rest = weights.AsSpan((row * _columns) + begin, count);
            Vector<float> error = new(errors[row - first]);
            int i = 0;
            for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
            {
                Vector.FusedMultiplyAdd(-error, new Vector<float>(factor[i..]), new Vector<float>(rest[i..])).CopyTo(rest[i..]);
            }

            for (; i < count; i++)
            {
                rest[i] -= errors[row - first] * factor[i];
            }
        }
    }

    private readonly struct Job(GptqSolver solver, float[] weights, int rows, byte[] codes, Grid[] grids, double[] losses) : ICpuJob
    {
        public void Execute(int part)
        {
            int first = part * RowsPerPart;
            losses[part] = solver.SolveRows(weights, first, Math.Min(rows, first + RowsPerPart), codes, grids);
        }
    }
}
