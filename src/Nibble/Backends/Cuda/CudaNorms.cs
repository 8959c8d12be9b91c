using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Norms of the residual stream in training with BF16, and sums over rows: <c>training.cu</c>. One pass over the rows does all that belongs to a norm's
/// gradient, the copy and the sums for the layer before included. Sums have an order that depends on shapes alone.
/// </summary>
internal sealed class CudaNorms(CachingMemory memory)
{
    // Columns that a thread owns; a block has at most 1,024 threads.
    private const nint Columns = 8, MostColumns = 8192;

    // Enough blocks for any card, and few parts to add up.
    private const nint MostRowsPerBlock = 32, MostRowsWithoutSums = 4, BlocksWanted = 512, RowsPerChunk = 64;

    private const int SumThreads = 128, PartialThreads = 512, ColumnsPerBlock = 32;

    /// <summary>True for rows that kernels read 16 bytes at a time.</summary>
    public static bool Fits(Tensor x) => x.Shape.Columns % Columns == 0 && CudaStorage.AddressOf(x) % (Columns * sizeof(ushort)) == 0;

    /// <summary>See <see cref="IGradientKernels.KeepsNormInput"/>.</summary>
    public static bool Keeps(Tensor x, Tensor y) =>
        x.DType == DType.F32 && y.DType == DType.BF16 && x.Shape.Count > 0 && x.Shape.Columns <= MostColumns && Fits(x) && Fits(y);

    /// <summary>See <see cref="IGradientKernels.NormKept"/>.</summary>
    public void Forward(in KeptNorm norm)
    {
        nint columns = norm.X.Shape.Columns;
        memory.Device.Launch(
            CudaKernelNames.Of("norm_kept"), new LaunchShape(norm.X.Shape.Rows, Threads(columns)),
            [norm.X, norm.Weight, norm.Bias, norm.Y, norm.Kept, norm.Statistics, columns, norm.Centered ? 1 : 0, norm.Epsilon]);
    }

    /// <summary>See <see cref="IGradientKernels.NormKeptGradient"/>.</summary>
    public void Backward(in KeptNorm norm, in KeptNormGradient g)
    {
        (nint rows, nint columns) = (norm.Kept.Shape.Rows, norm.Kept.Shape.Columns);
        bool sums = g.DWeight is not null || g.DBias is not null || g.Sums is not null;
        nint rowsPerBlock = nint.Clamp(rows / BlocksWanted, 1, sums ? MostRowsPerBlock : MostRowsWithoutSums), blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
        using CudaStorage? partial = sums ? memory.Rent(3 * blocks * columns * sizeof(float), "gradients") : null;
        memory.Device.Launch(
            CudaKernelNames.Of(sums ? "norm_kept_gradient_sums" : "norm_kept_gradient"), new LaunchShape(blocks, Threads(columns)),
            [
                norm.Kept, norm.Statistics, norm.Weight, g.Dy, g.Dx, g.Rounded, partial?.Address ?? 0, columns, rows, rowsPerBlock, norm.Centered ? 1 : 0, g.Add ? 1 : 0,
            ]);
        if (partial is not null)
        {
            AddUp(partial.Address, g.DWeight, g.DBias, g.Sums, columns, blocks, 3);
        }
    }

    /// <summary>sum += the rows of x, of BF16.</summary>
    public void SumRows(Tensor x, Tensor sum)
    {
        (nint rows, nint columns) = (x.Shape.Rows, x.Shape.Columns);
        if (x.Shape.Count == 0)
        {
            return;
        }

        nint chunks = (rows + RowsPerChunk - 1) / RowsPerChunk;
        using CudaStorage partial = memory.Rent(chunks * columns * sizeof(float), "gradients");
        memory.Device.Launch(
            CudaKernelNames.Of("sum_row_eights"), new LaunchShape(((columns / Columns) + SumThreads - 1) / SumThreads, SumThreads, checked((int)chunks)),
            [x, partial.Address, columns, rows, RowsPerChunk]);
        AddUp(partial.Address, sum, null, null, columns, chunks, 1);
    }

    private static int Threads(nint columns) => checked((int)((columns / Columns + 31) / 32 * 32));

    private void AddUp(nint partial, Tensor? first, Tensor? second, Tensor? third, nint columns, nint rows, int kinds) => memory.Device.Launch(
        CudaKernelNames.Of("sum_partial_rows"), new LaunchShape((columns + ColumnsPerBlock - 1) / ColumnsPerBlock, PartialThreads, kinds),
        [partial, first, second, third, columns, rows, kinds * columns]);
}
