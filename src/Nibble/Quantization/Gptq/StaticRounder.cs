using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// Grids that are found from the dense weights before any column is rounded, for groups of columns that stand side by side: the
/// order in which columns are visited then needs no index in the file (<c>static_groups</c> of GPTQ's authors).
/// </summary>
internal sealed class StaticRounder : IGroupGrids
{
    private readonly int[] _groupOf;
    private readonly int _columns, _groups;

    /// <summary>Finds all grids.</summary>
    /// <param name="weights">The dense weights <c>[rows, columns]</c>, columns in visiting order.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="order">The column of each visit.</param>
    /// <param name="groupSize">Columns that share a grid.</param>
    /// <param name="find">Finds a grid from a group's values.</param>
    /// <param name="threads">Rows are shared among them.</param>
    public StaticRounder(float[] weights, int rows, int[] order, int groupSize, GridFinder find, CpuThreads threads)
    {
        _columns = order.Length;
        _groups = (_columns + groupSize - 1) / groupSize;
        _groupOf = Array.ConvertAll(order, column => column / groupSize);
        Grids = new Grid[rows * _groups];
        threads.Run(rows, new FindJob(this, weights, order, groupSize, find));
    }

    public Grid[] Grids { get; }

    public int Reach => 1;

    public byte Round(float[] weights, int row, int column, out float value)
    {
        Grid grid = Grids[(row * _groups) + _groupOf[column]];
        int code = grid.Code(weights[(row * _columns) + column]);
        value = grid.Value(code);
        return (byte)code;
    }

    private readonly struct FindJob(StaticRounder rounder, float[] weights, int[] order, int groupSize, GridFinder find) : ICpuJob
    {
        public void Execute(int row)
        {
            float[] placed = new float[order.Length];
            for (int i = 0; i < order.Length; i++)
            {
                placed[order[i]] = weights[(row * order.Length) + i];
            }

            for (int group = 0; group < rounder._groups; group++)
            {
                int first = group * groupSize;
                rounder.Grids[(row * rounder._groups) + group] = find(placed.AsSpan(first, Math.Min(groupSize, order.Length - first)));
            }
        }
    }
}
