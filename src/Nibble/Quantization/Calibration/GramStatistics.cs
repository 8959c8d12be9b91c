using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Σ xᵀx over the inputs of a linear layer: half of the Hessian of its squared output error (GPTQ, arXiv 2210.17323, section 2),
/// which is all that GPTQ needs. Batches are multiplied in F32 and summed in double precision.
/// </summary>
/// <param name="Tokens">Rows of activations that were seen.</param>
/// <param name="Columns">Input features.</param>
/// <param name="Gram">Σ xᵀx, <c>[columns, columns]</c>.</param>
public sealed record GramStatistics(long Tokens, int Columns, double[] Gram) : CalibrationStatistics(Tokens)
{
    /// <summary>Input features that were zero in every row.</summary>
    public int DeadInputs => Enumerable.Range(0, Columns).Count(i => Gram[(i * (long)Columns) + i] == 0);
}

/// <summary>Collects <see cref="GramStatistics"/> batch by batch.</summary>
internal sealed class GramAccumulator : IDisposable
{
    // Rows multiplied at once: enough that the product runs at full speed, few enough that F32 sums stay exact to 1e-6.
    private const int MostRows = 2048;

    // The matrix is symmetric: of each strip of columns only the rows from the diagonal on are multiplied.
    private const int Strip = 256;

    private readonly IBackend _backend;
    private readonly double[] _sum;
    private readonly Tensor _product;
    private long _tokens;

    public GramAccumulator(int columns, IBackend backend)
    {
        _backend = backend;
        Columns = columns;
        _sum = new double[(long)columns * columns];
        _product = backend.Allocate(new Shape(columns, Math.Min(columns, Strip)), DType.F32);
    }

    public int Columns { get; }

    /// <summary>Adds the rows of x, F32 <c>[rows, columns]</c>.</summary>
    public void Add(Tensor x)
    {
        for (nint start = 0; start < x.Shape[0]; start += MostRows)
        {
            AddRows(x.Slice(start, nint.Min(MostRows, x.Shape[0] - start)));
        }
    }

    public GramStatistics Finish()
    {
        for (long row = 0; row < Columns; row++)
        {
            for (long column = row + 1; column < Columns; column++)
            {
                _sum[(row * Columns) + column] = _sum[(column * Columns) + row];
            }
        }

        return new(_tokens, Columns, _sum);
    }

    public void Dispose() => _product.Dispose();

    private void AddRows(Tensor x)
    {
        // xᵀ·(xᵀ)ᵀ is the product that the backend is fast at: rows of activations times a matrix of [out, in].
        using Tensor turned = Transpose.Of(x);
        for (int first = 0; first < Columns; first += Strip)
        {
            int width = Math.Min(Strip, Columns - first), rows = Columns - first;
            using IPackedWeight packed = _backend.Prepare(turned.Slice(first, width));
            Tensor product = new(new Shape(rows, width), DType.F32, _product.Storage, ownsStorage: false);
            Ops.MatMul.Forward(_backend, turned.Slice(first, rows), packed, null, product);
            CpuThreads.Shared(_backend.Threads).Run(rows, new AddRow(product, _sum, first, Columns));
        }

        _tokens += x.Shape[0];
    }

    /// <summary>Adds a row of the product of a strip to the row of the sum, up to the diagonal.</summary>
    private readonly struct AddRow(Tensor product, double[] sum, int column, int columns) : ICpuJob
    {
        public void Execute(int row)
        {
            ReadOnlySpan<float> values = product.Slice(row, 1).HostSpan<float>();
            Span<double> target = sum.AsSpan(((column + row) * columns) + column, Math.Min(values.Length, row + 1));
            for (int i = 0; i < target.Length; i++)
            {
                target[i] += values[i];
            }
        }
    }
}
