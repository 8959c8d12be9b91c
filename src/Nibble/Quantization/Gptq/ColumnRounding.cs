using System.Runtime.CompilerServices;

namespace Nibble.Quantization.Gptq;

/// <summary>Decides the code of one element while <see cref="GptqSolver"/> walks along the columns. Rows may be asked for by several threads, each row by one.</summary>
internal interface IColumnRounder
{
    /// <summary>Columns that <see cref="Round"/> looks at in the columns that are multiples of it; 1: it only looks at the element itself.</summary>
    int Reach { get; }

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

/// <summary>Grids that are found when the first column of their group comes up, from the weights as they stand then.</summary>
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

    public byte Round(float[] weights, int row, int column, out float value)
    {
        int at = (row * columns) + column;
        ref Grid grid = ref Grids[(row * _groups) + (column / groupSize)];
        if (column % groupSize == 0)
        {
            grid = find(weights.AsSpan(at, Math.Min(groupSize, columns - column)));
        }

        int code = grid.Code(weights[at]);
        value = grid.Value(code);
        return (byte)code;
    }
}
