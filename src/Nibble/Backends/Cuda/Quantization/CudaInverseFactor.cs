using Nibble.Backends.Cuda.Driver;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>
/// The factor of a damped Hessian for GPTQ, in double precision: Gauss and Jordan's elimination in blocks, as <see cref="SingleInverseFactor"/> has it. A block
/// of 64 columns is factored and inverted by one block of threads; everything else is products of matrices.
/// </summary>
internal sealed class CudaInverseFactor
{
    private const int Block = 64, Threads = 256, SharedBytes = 2 * Block * (Block + 1) * sizeof(double);

    private readonly CachingMemory _memory;
    private readonly nint _n, _a, _row, _left, _diagonal, _flag;

    private CudaInverseFactor(CachingMemory memory, nint n, nint a, nint scratch, nint flag)
    {
        (_memory, _n, _a, _row, _flag) = (memory, n, a, scratch, flag);
        _left = _row + (Block * n * sizeof(double));
        _diagonal = _left + (Block * n * sizeof(double));
    }

    /// <summary>U of H⁻¹ = Uᵀ·U, F32, upper triangular, in visiting order; damping is raised until H is positive definite. The caller gives it back.</summary>
    public static CudaStorage Compute(CachingMemory memory, CudaGram gram, GramStatistics statistics, int[] order, double damping)
    {
        nint n = gram.Columns;
        using CudaStorage a = memory.Rent(n * n * sizeof(double), "calibration"), flag = memory.Rent(sizeof(uint), "calibration");
        using CudaStorage scratch = memory.Rent(((2 * Block * n) + (Block * Block)) * sizeof(double), "calibration"), visits = memory.Upload<int>(order, "calibration");
        CudaInverseFactor work = new(memory, n, a.Address, scratch.Address, flag.Address);
        CudaStorage factor = memory.Rent(n * n * sizeof(float), "calibration");
        try
        {
            return DampedHessian.Factor(statistics, damping, added => work.Attempt(gram, visits.Address, added, factor.Address) ? factor : null);
        }
        catch
        {
            factor.Dispose();
            throw;
        }
    }

    private bool Attempt(CudaGram gram, nint order, double added, nint factor)
    {
        _memory.Device.Clear(_flag, sizeof(uint));
        Launch("damped_hessian", CudaGrid.Elements(_n * _n), gram.Address, order, _a, _n, BitConverter.DoubleToUInt64Bits(added));
        for (nint start = 0; start < _n; start += Block)
        {
            nint width = nint.Min(Block, _n - start);
            Launch("factor_block", new LaunchShape(1, Threads, 1, SharedBytes), _a, _diagonal, _n, start, (int)width, _flag);
            FinishColumns(start, width);
            Update(start, width);
        }

        long tiles = (_n + 31) / 32;
        Launch("turn_factor", new LaunchShape(tiles * tiles, Threads), _a, factor, _n);
        return !Failed();
    }

    private unsafe bool Failed()
    {
        uint flag;
        _memory.Device.Download(_flag, &flag, sizeof(uint));
        return flag != 0;
    }

    /// <summary>The block's columns of the inverse are now known: −(what the rows above have gathered)·D, and D itself.</summary>
    private void FinishColumns(nint start, nint width)
    {
        if (start > 0)
        {
            Multiply(_diagonal, width, At(0, start), _n, false, _left, width, start, width, width, add: false, negative: true);
            Launch("place_block", CudaGrid.Elements(start * width), _left, At(0, start), start, width, width, _n);
        }

        Launch("place_block", CudaGrid.Elements(width * width), _diagonal, At(start, start), width, width, width, _n);
    }

    /// <summary>Everything right of the block: rows above gather, the block's own rows start to, rows below lose what is explained.</summary>
    private void Update(nint start, nint width)
    {
        nint end = start + width, rest = _n - end;
        if (rest == 0)
        {
            return;
        }

        // U[block, rest] = Dᵀ·A[block, rest].
        Multiply(At(start, end), _n, _diagonal, width, true, _row, rest, width, rest, width, add: false, negative: false);
        if (start > 0)
        {
            Multiply(_row, rest, _left, width, false, At(0, end), _n, start, rest, width, add: true, negative: false);
        }

        Multiply(_row, rest, _diagonal, width, false, At(start, end), _n, width, rest, width, add: false, negative: false);
        Multiply(_row, rest, _row, rest, true, At(end, end), _n, rest, rest, width, add: true, negative: true);
    }

    private nint At(nint row, nint column) => _a + (((row * _n) + column) * sizeof(double));

    /// <summary>C (±)= X·Y, row-major: Y <c>[depth, columns]</c>, X <c>[rows, depth]</c> or the transpose of one <c>[depth, rows]</c>.</summary>
    private void Multiply(nint y, nint yRow, nint x, nint xRow, bool transposeX, nint c, nint cRow, nint rows, nint columns, nint depth, bool add, bool negative) => _memory.Device.Multiply(
        new GemmCall(y, x, c, 0, columns, rows, depth, false, transposeX, yRow, xRow, cRow, Tensors.DType.F32, add) { Double = true, Negative = negative });

    private void Launch(string kernel, LaunchShape shape, params ReadOnlySpan<KernelArgument> arguments) => _memory.Device.Launch(CudaKernelNames.Of(kernel), shape, arguments);
}
