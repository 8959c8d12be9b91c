using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// Rounds a matrix to a stored grid so that the layer's outputs on the calibration inputs change least: GPTQ (arXiv 2210.17323,
/// algorithm 1) with grids that are given instead of found.
/// </summary>
/// <param name="grid">The grid.</param>
/// <param name="order">Columns in the order of visiting.</param>
internal sealed class GridRounder(StoredGrid grid, int[] order) : IColumnRounder
{
    /// <inheritdoc/>
    public int Reach => 1;

    /// <inheritdoc/>
    public byte Round(float[] weights, int row, int column, out float value)
    {
        int place = order[column];
        byte code = grid.Nearest(row, place, weights[(row * order.Length) + column]);
        value = grid.Value(row, place, code);
        return code;
    }

    /// <summary>The weight nearest to <paramref name="matrix"/>, F32 <c>[out, in]</c>, in the sense of the inputs that <paramref name="gram"/> saw.</summary>
    public static QuantizedWeight Round(StoredGrid grid, Tensor matrix, GramStatistics gram)
    {
        // The columns that carry most are rounded first, while all others can still make up for them.
        int[] order = ColumnOrder.Of(gram, actOrder: true);
        float[] values = ColumnOrder.Gather(matrix, order, gram);
        byte[] codes = new byte[values.Length];
        GptqSolver solver = new(DampedHessian.Factor(gram, order), order.Length);
        solver.Solve(values, (int)matrix.Shape[0], codes, new GridRounder(grid, order), CpuThreads.Shared(CpuThreads.Choose(null)));
        return grid.With(ColumnOrder.Place(codes, order, matrix.Shape));
    }
}
