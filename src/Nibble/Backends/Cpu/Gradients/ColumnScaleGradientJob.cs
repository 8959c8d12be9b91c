using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>
/// dFactor += Σ x∘d over the rows, then d = d·factor. A part owns some columns and goes through all rows in order, so the sums do
/// not depend on threads.
/// </summary>
internal unsafe struct ColumnScaleGradientJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int ColumnsPerPart = 64;

    public float* X, Factor, D, DFactor;
    public nint Rows, Columns;

    public readonly int Parts => Kernels.Parts.Count(Columns, ColumnsPerPart);

    public readonly void Execute(int part)
    {
        nint first = part * ColumnsPerPart;
        nint count = nint.Min(ColumnsPerPart, Columns - first);
        for (nint row = 0; row < Rows; row++)
        {
            float* d = D + (row * Columns) + first;
            if (DFactor != null)
            {
                RowMath<S, V>.AddProduct(X + (row * Columns) + first, d, DFactor + first, count);
            }

            RowMath<S, V>.Multiply(d, Factor + first, d, count);
        }
    }
}
