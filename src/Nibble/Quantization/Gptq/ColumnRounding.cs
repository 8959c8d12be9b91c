using System.Runtime.CompilerServices;

namespace Nibble.Quantization.Gptq;

/// <summary>Decides the code of one element while <see cref="GptqSolver"/> walks along the columns. Rows may be asked for by several threads, each row by one.</summary>
internal interface IColumnRounder
{
    /// <summary>Columns that <see cref="Begin"/> looks at from each column that is a multiple of it; 1: it looks at none.</summary>
    int Reach { get; }

    /// <summary>
    /// A row comes to a block of columns: grids of the groups that begin in it are found now, from weights that know of the errors of all
    /// blocks before, and of none within (as in the authors' code).
    /// </summary>
    void Begin(float[] weights, int row, int start, int end)
    {
    }

    /// <summary>The code of an element and the value that it stands for.</summary>
    /// <param name="weights">The current weights <c>[rows, columns]</c>, errors of earlier columns made up for.</param>
    /// <param name="row">Row.</param>
    /// <param name="column">Column, in visiting order.</param>
    /// <param name="value">What the code stands for.</param>
    byte Round(float[] weights, int row, int column, out float value);
}

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

/// <summary>A rounder with a grid for each group of a row.</summary>
internal interface IGroupGrids : IColumnRounder
{
    /// <summary>The grids, <c>[row · groups + group]</c>.</summary>
    Grid[] Grids { get; }
}

/// <summary>Grids that are found when the block of their group's first column comes up, from the weights as they stand then.</summary>
/// <param name="rows">Rows of the matrix.</param>
/// <param name="columns">Columns of the matrix.</param>
/// <param name="groupSize">Columns that share a grid, in visiting order.</param>
/// <param name="find">Finds a grid from a group's current values.</param>
internal sealed class GroupRounder(int rows, int columns, int groupSize, GridFinder find) : IGroupGrids
{
    private readonly int _groups = (columns + groupSize - 1) / groupSize;

    /// <summary>The grids, <c>[row · groups + group]</c>.</summary>
    public Grid[] Grids { get; } = new Grid[rows * ((columns + groupSize - 1) / groupSize)];

    public int Reach => groupSize;

    public void Begin(float[] weights, int row, int start, int end)
    {
        for (int group = (start + groupSize - 1) / groupSize; group * groupSize < end; group++)
        {
            int first = group * groupSize;
            Grids[(row * _groups) + group] = find(weights.AsSpan((row * columns) + first, Math.Min(groupSize, columns - first)));
        }
    }

    public byte Round(float[] weights, int row, int column, out float value)
    {
        Grid grid = Grids[(row * _groups) + (column / groupSize)];
        int code = grid.Code(weights[(row * columns) + column]);
        value = grid.Value(code);
        return (byte)code;
    }
}
