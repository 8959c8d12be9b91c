using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>
/// The five steps that bring all singular values of a matrix near 1 (between 0.7 and 1.2) and leave its singular vectors (Keller Jordan 2024):
/// X = U/‖U‖, then X = a·X + (b·A + c·A²)·X with A = X·Xᵀ.
/// </summary>
internal static class NewtonSchulz
{
    /// <summary>Number of steps.</summary>
    public const int Steps = 5;

    /// <summary>Coefficients of X, A·X and A²·X.</summary>
    public const float A = 3.4445f, B = -4.7750f, C = 2.0315f;

    /// <summary>Added to the norm.</summary>
    public const float Epsilon = 1e-7f;

    /// <summary>Writes the result over a matrix <c>[rows, columns]</c> of the host, by the products of a backend.</summary>
    public static void Run(IBackend backend, Tensor matrix)
    {
        double norm = Math.Sqrt(backend.Gradients.SumOfSquares(matrix));
        bool turned = matrix.Shape[0] > matrix.Shape[1];
        using Tensor x = turned ? Transpose.Of(matrix) : matrix.To(DType.F32);
        backend.Kernels.Scale(x, (float)(1 / (norm + Epsilon)));
        using Tensor a = Tensor.OnHost(new Shape(x.Shape[0], x.Shape[0]), DType.F32), polynomial = Tensor.OnHost(a.Shape, DType.F32), next = Tensor.OnHost(x.Shape, DType.F32);
        for (int step = 0; step < Steps; step++)
        {
            Advance(backend, x, a, polynomial, next);
        }

        using Tensor result = turned ? Transpose.Of(x) : x.To(DType.F32);
        backend.Gradients.Copy(result, matrix);
    }

    /// <summary>The definition, in double precision; matrices in row order.</summary>
    public static double[] Reference(ReadOnlySpan<float> matrix, int rows, int columns)
    {
        double[] x = new double[matrix.Length];
        double norm = 0;
        foreach (float value in matrix)
        {
            norm += (double)value * value;
        }

        for (int i = 0; i < x.Length; i++)
        {
            x[i] = matrix[i] / (Math.Sqrt(norm) + Epsilon);
        }

        for (int step = 0; step < Steps; step++)
        {
            double[] gram = Product((i, j, k) => x[(i * columns) + k] * x[(j * columns) + k], rows, rows, columns);
            double[] square = Product((i, j, k) => gram[(i * rows) + k] * gram[(k * rows) + j], rows, rows, rows);
            double[] polynomial = [.. gram.Zip(square, (a, s) => (B * a) + (C * s))];
            double[] moved = Product((i, j, k) => polynomial[(i * rows) + k] * x[(k * columns) + j], rows, columns, rows);
            x = [.. x.Zip(moved, (old, add) => (A * old) + add)];
        }

        return x;
    }

    private static double[] Product(Func<int, int, int, double> term, int rows, int columns, int depth)
    {
        double[] result = new double[rows * columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                for (int k = 0; k < depth; k++)
                {
                    result[(i * columns) + j] += term(i, j, k);
                }
            }
        }

        return result;
    }

    private static void Advance(IBackend backend, Tensor x, Tensor a, Tensor polynomial, Tensor next)
    {
        (IKernels kernels, IGradientKernels gradients) = (backend.Kernels, backend.Gradients);
        using IPackedWeight packed = backend.Prepare(x);
        kernels.MatMul(x, packed, null, a);
        using (IPackedWeight square = backend.Prepare(a))
        {
            kernels.MatMul(a, square, null, polynomial);
        }

        kernels.Scale(polynomial, C);
        kernels.Scale(a, B);
        kernels.Add(a, polynomial);
        gradients.Copy(x, next);
        kernels.Scale(next, A);
        gradients.MatMulInput(polynomial, packed, next);
        gradients.Copy(next, x);
    }
}
