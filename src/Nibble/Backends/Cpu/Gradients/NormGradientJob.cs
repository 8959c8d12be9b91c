using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>
/// LayerNorm (centered) and RMSNorm backward. With n = x̂ and g = dy·weight: dx += (g − mean(g) − n·mean(g·n))/σ, where the term
/// mean(g) is LayerNorm's alone; dWeight += Σ dy·n and dBias += Σ dy, summed per block of rows and then over the blocks.
/// </summary>
internal unsafe struct NormGradientJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int RowsPerPart = 64;

    public float* X, Weight, Dy, Dx;
    public nint Rows, Columns;
    public float Epsilon;
    public bool Centered;

    /// <summary>Per part a row for dWeight and one for dBias, zeroed; null if neither is wanted.</summary>
    public float* Partial;

    public readonly int Parts => Kernels.Parts.Count(Rows, RowsPerPart);

    public readonly void Execute(int part)
    {
        using CpuScratch.Lease scratch = CpuScratch.Rent(2 * Columns * sizeof(float));
        float* normal = (float*)scratch.Pointer;
        float* gradient = normal + Columns;
        nint end = nint.Min(Rows, (part + 1) * RowsPerPart);
        for (nint row = part * RowsPerPart; row < end; row++)
        {
            float* dy = Dy + (row * Columns);
            float scale = Normalize(X + (row * Columns), normal);
            RowMath<S, V>.Multiply(dy, Weight, gradient, Columns);
            AddInput(normal, gradient, scale, Dx + (row * Columns));
            if (Partial != null)
            {
                float* sums = Partial + (part * 2 * Columns);
                RowMath<S, V>.AddProduct(dy, normal, sums, Columns);
                RowMath<S, V>.Add(dy, sums + Columns, Columns);
            }
        }
    }

    private readonly float Normalize(float* x, float* normal)
    {
        float mean = Centered ? Reduce<S, V>.Sum(x, Columns) / Columns : 0;
        float scale = 1 / MathF.Sqrt((Reduce<S, V>.SumOfSquares(x, mean, Columns) / Columns) + Epsilon);
        RowMath<S, V>.Normalize(x, mean, scale, normal, Columns);
        return scale;
    }

    private readonly void AddInput(float* normal, float* gradient, float scale, float* dx)
    {
        float mean = Centered ? Reduce<S, V>.Sum(gradient, Columns) / Columns : 0;
        float slope = Reduce<S, V>.Dot(gradient, normal, Columns) / Columns;
        RowMath<S, V>.Normalize(gradient, mean, scale, gradient, Columns);
        RowMath<S, V>.Add(gradient, dx, Columns);
        Reduce<S, V>.AddScaled(normal, -slope * scale, dx, Columns);
    }
}

/// <summary>Sums rows into a vector: columns are split over the parts, each of which walks down all rows.</summary>
internal unsafe struct SumRowsJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int ColumnsPerPart = 128;

    public float* X, Y;
    public nint Rows, Columns, RowStride;

    public readonly int Parts => Kernels.Parts.Count(Columns, ColumnsPerPart);

    public readonly void Execute(int part)
    {
        nint first = part * ColumnsPerPart;
        nint count = nint.Min(ColumnsPerPart, Columns - first);
        for (nint row = 0; row < Rows; row++)
        {
            RowMath<S, V>.Add(X + (row * RowStride) + first, Y + first, count);
        }
    }
}
