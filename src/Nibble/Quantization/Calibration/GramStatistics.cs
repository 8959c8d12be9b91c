using Nibble.Backends;
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
    /// <summary>The layer, for messages.</summary>
    public string? Layer { get; init; }

    /// <summary>The damping that a factorization needed, as a share of the mean diagonal, where it was more than was asked for.</summary>
    internal double? RaisedDamping { get; set; }

    /// <summary>Input features that were zero in every row.</summary>
    public int DeadInputs { get; } = Enumerable.Range(0, Columns).Count(i => Gram[(i * (long)Columns) + i] == 0);
}

/// <summary>Collects <see cref="GramStatistics"/> batch by batch.</summary>
internal sealed class GramAccumulator(int columns, IBackend backend)
{
    // Rows multiplied at once: enough that the product runs at full speed, few enough that F32 sums stay exact to 1e-6 …
    private const int MostRows = 2048;

    // … and that the packed rows of a wide layer take 32 MB, but never so few that adding up outweighs multiplying.
    private const int PackedElements = 8 << 20;
    private const int FewestRows = 512;

    private readonly double[] _sum = new double[(long)columns * columns];
    private long _tokens;

    /// <summary>Adds the rows of x, F32 <c>[rows, columns]</c>.</summary>
    public void Add(Tensor x)
    {
        int most = Math.Clamp(PackedElements / columns, FewestRows, MostRows);
        for (nint start = 0; start < x.Shape[0]; start += most)
        {
            backend.Kernels.AddGram(x.Slice(start, nint.Min(most, x.Shape[0] - start)), _sum);
        }

        _tokens += x.Shape[0];
    }

    public GramStatistics Finish()
    {
        // Tiles of both triangles that stay in the cache together.
        const int tile = 64;
        for (int row = 0; row < columns; row += tile)
        {
            for (int column = row; column < columns; column += tile)
            {
                Mirror(row, column, Math.Min(tile, columns - row), Math.Min(tile, columns - column));
            }
        }

        return new(_tokens, columns, _sum);
    }

    private void Mirror(int firstRow, int firstColumn, int rows, int width)
    {
        for (long row = firstRow; row < firstRow + rows; row++)
        {
            for (long column = Math.Max(firstColumn, row + 1); column < firstColumn + width; column++)
            {
                _sum[(row * columns) + column] = _sum[(column * columns) + row];
            }
        }
    }
}
