using System.Numerics;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.LowRank;

/// <summary>
/// The largest singular values of a matrix and their vectors, M ≈ U·diag(S)·V: a random start, some power iterations, and the exact
/// decomposition of what is left (Halko, Martinsson, Tropp, arXiv 0909.4061, algorithms 4.4 and 5.1). Double precision; the same bits
/// for any number of threads.
/// </summary>
internal sealed class TruncatedSvd
{
    private const int Oversampling = 8, Iterations = 6, Block = 64;

    private TruncatedSvd(double[] left, double[] values, double[] right) => (Left, Values, Right) = (left, values, right);

    /// <summary>U, <c>[rows, rank]</c>.</summary>
    public double[] Left { get; }

    /// <summary>Singular values, largest first.</summary>
    public double[] Values { get; }

    /// <summary>V, <c>[rank, columns]</c>.</summary>
    public double[] Right { get; }

    /// <summary>Decomposes an F32 matrix on the host.</summary>
    public static TruncatedSvd Of(Tensor matrix, int rank, ulong seed)
    {
        (int rows, int columns) = ((int)matrix.Shape[0], (int)matrix.Shape[1]);
        rank = Math.Min(rank, Math.Min(rows, columns));
        int width = Math.Min(rank + Oversampling, Math.Min(rows, columns));
        double[] start = new double[columns * width];
        for (int i = 0; i < start.Length; i++)
        {
            start[i] = CounterRandom.Normal(seed, (ulong)i);
        }

        double[] range = Orthonormal(Times(matrix, start, width), rows, width);
        for (int i = 0; i < Iterations; i++)
        {
            double[] back = Orthonormal(TransposedTimes(matrix, range, width), columns, width);
            range = Orthonormal(Times(matrix, back, width), rows, width);
        }

        // B = rangeᵀ·M has the wanted values; B·Bᵀ is small and symmetric.
        double[] small = TransposedTimes(matrix, range, width);
        (double[] squares, double[] vectors) = SymmetricEigen.Of(Gram(small, columns, width), width);
        return Assemble(range, small, squares, vectors, rows, columns, width, rank);
    }

    private static TruncatedSvd Assemble(double[] range, double[] small, double[] squares, double[] vectors, int rows, int columns, int width, int rank)
    {
        double[] values = [.. squares.Take(rank).Select(square => Math.Sqrt(Math.Max(0, square)))];
        double[] left = new double[rows * rank], right = new double[rank * columns];
        for (int row = 0; row < rows; row++)
        {
            for (int r = 0; r < rank; r++)
            {
                for (int k = 0; k < width; k++)
                {
                    left[(row * rank) + r] += range[(row * width) + k] * vectors[(k * width) + r];
                }
            }
        }

        for (int column = 0; column < columns; column++)
        {
            for (int r = 0; r < rank; r++)
            {
                double sum = 0;
                for (int k = 0; k < width; k++)
                {
                    sum += small[(column * width) + k] * vectors[(k * width) + r];
                }

                right[(r * columns) + column] = values[r] > 0 ? sum / values[r] : 0;
            }
        }

        return new TruncatedSvd(left, values, right);
    }

    /// <summary>M·x: x <c>[columns, width]</c>.</summary>
    private static unsafe double[] Times(Tensor matrix, double[] x, int width)
    {
        (int rows, int columns) = ((int)matrix.Shape[0], (int)matrix.Shape[1]);
        double[] y = new double[rows * width];
        float* m = (float*)matrix.HostPointer;
        Spread.Over(rows, (nint)columns * width, (first, last) =>
        {
            for (int row = (int)first; row < last; row++)
            {
                for (int column = 0; column < columns; column++)
                {
                    Add(m[((long)row * columns) + column], x.AsSpan(column * width, width), y.AsSpan(row * width, width));
                }
            }
        });
        GC.KeepAlive(matrix);
        return y;
    }

    /// <summary>Mᵀ·x: x <c>[rows, width]</c>; each thread owns some columns and takes all rows in order.</summary>
    private static unsafe double[] TransposedTimes(Tensor matrix, double[] x, int width)
    {
        (int rows, int columns) = ((int)matrix.Shape[0], (int)matrix.Shape[1]);
        double[] y = new double[columns * width];
        float* m = (float*)matrix.HostPointer;
        // Blocks of columns, so that a part reads whole lines of each row.
        Spread.Over((columns + Block - 1) / Block, (nint)rows * Block * width, (first, last) =>
        {
            int end = Math.Min(columns, (int)last * Block);
            for (int row = 0; row < rows; row++)
            {
                for (int column = (int)first * Block; column < end; column++)
                {
                    Add(m[((long)row * columns) + column], x.AsSpan(row * width, width), y.AsSpan(column * width, width));
                }
            }
        });
        GC.KeepAlive(matrix);
        return y;
    }

    private static void Add(double factor, ReadOnlySpan<double> x, Span<double> y)
    {
        int i = 0;
        for (; i <= y.Length - Vector<double>.Count; i += Vector<double>.Count)
        {
            (new Vector<double>(y[i..]) + (new Vector<double>(x[i..]) * factor)).CopyTo(y[i..]);
        }

        for (; i < y.Length; i++)
        {
            y[i] += factor * x[i];
        }
    }

    /// <summary>xᵀ·x of <c>[rows, width]</c>.</summary>
    private static double[] Gram(double[] x, int rows, int width)
    {
        double[] gram = new double[width * width];
        for (int row = 0; row < rows; row++)
        {
            for (int i = 0; i < width; i++)
            {
                Add(x[(row * width) + i], x.AsSpan(row * width, width), gram.AsSpan(i * width, width));
            }
        }

        return gram;
    }

    /// <summary>The columns made orthonormal, in place: Gram and Schmidt, twice; a column that depends on those before becomes zero.</summary>
    private static double[] Orthonormal(double[] x, int rows, int width)
    {
        const double dependent = 1e-12;
        for (int column = 0; column < width; column++)
        {
            double before = Norm(x, rows, width, column);
            for (int pass = 0; pass < 2; pass++)
            {
                for (int other = 0; other < column; other++)
                {
                    double product = 0;
                    for (int row = 0; row < rows; row++)
                    {
                        product += x[(row * width) + column] * x[(row * width) + other];
                    }

                    for (int row = 0; row < rows; row++)
                    {
                        x[(row * width) + column] -= product * x[(row * width) + other];
                    }
                }
            }

            double norm = Norm(x, rows, width, column);
            double factor = norm > dependent * before ? 1 / norm : 0;
            for (int row = 0; row < rows; row++)
            {
                x[(row * width) + column] *= factor;
            }
        }

        return x;
    }

    private static double Norm(double[] x, int rows, int width, int column)
    {
        double sum = 0;
        for (int row = 0; row < rows; row++)
        {
            sum += x[(row * width) + column] * x[(row * width) + column];
        }

        return Math.Sqrt(sum);
    }
}
