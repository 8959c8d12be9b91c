using MathNet.Numerics.LinearAlgebra;
using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;

namespace Nibble.Tests.Quantization;

/// <summary>The solver against the authors' algorithm written out with MathNet in double precision.</summary>
public class GptqSolverTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(64)]
    [InlineData(65)]
    [InlineData(200)]
    public void TheFactorSquaredIsTheInverse(int n)
    {
        double[] h = Hessian(n, seed: n);
        Matrix<double> inverse = Dense(h, n).Inverse();
        Assert.True(InverseFactor.TryCompute(h, n, CpuThreads.Shared(2)));
        Matrix<double> u = Dense(h, n);
        double error = ((u.Transpose() * u) - inverse).L2Norm() / inverse.L2Norm();
        Assert.True(error < 1e-10, $"relative error {error}");
        Assert.True(IsUpper(u));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(31)]
    [InlineData(256)]
    [InlineData(300)]
    [InlineData(530)]
    public void TheFactorInSinglePrecisionIsThatInDouble(int n)
    {
        double[] h = Hessian(n, seed: n);
        int[] order = [.. Enumerable.Range(0, n).Reverse()];
        GramStatistics gram = new(n, n, (double[])h.Clone());
        float[] single = DampedHessian.InSingle(gram, order, 0.01 * n, CpuThreads.Shared(2))!;
        Assert.Equal(single, DampedHessian.InSingle(gram, order, 0.01 * n, CpuThreads.Shared(1)));
        double[] exact = new double[n * n];
        for (int i = 0; i < n * n; i++)
        {
            exact[i] = h[(order[i / n] * n) + order[i % n]] + (i / n == i % n ? 0.01 * n : 0);
        }

        Assert.True(InverseFactor.TryCompute(exact, n, CpuThreads.Shared(2)));
        double largest = exact.Max(Math.Abs);
        Assert.All(single.Zip(exact), pair => Assert.InRange(pair.First, pair.Second - (1e-4 * largest), pair.Second + (1e-4 * largest)));
    }

    [Fact]
    public void WhereSinglePrecisionIsNotEnoughDoubleIs()
    {
        // The second input repeats the first up to 1e-4: what the pivot loses is more than single precision has.
        const int n = 40;
        double[] h = Hessian(n, seed: 4);
        for (int i = 0; i < n; i++)
        {
            h[n + i] = h[(i * n) + 1] = h[i];
        }

        h[n + 1] = h[0] * (1 + 1e-6);
        GramStatistics gram = new(n, n, h);
        int[] order = [.. Enumerable.Range(0, n)];
        Assert.Null(DampedHessian.InSingle(gram, order, 0, CpuThreads.Shared(2)));
        Assert.All(DampedHessian.Factor(gram, order, 0), value => Assert.True(float.IsFinite(value)));
        Assert.Null(gram.RaisedDamping);
    }

    [Fact]
    public void NoDampingIsRaisedToWhereFewTokensHaveAFactor()
    {
        // One token: all products of its inputs are whole numbers, so that the second pivot is exactly 0.
        const int n = 24;
        double[] h = new double[n * n];
        for (int i = 0; i < n * n; i++)
        {
            h[i] = (1 + (i / n % 4)) * (1 + (i % n % 4));
        }

        GramStatistics gram = new(1, n, h);
        Assert.All(DampedHessian.Factor(gram, [.. Enumerable.Range(0, n)], 0), value => Assert.True(float.IsFinite(value)));
        Assert.InRange(gram.RaisedDamping!.Value, DampedHessian.DefaultDamping, 0.1);
    }

    [Fact]
    public void AMatrixThatIsNotPositiveDefiniteIsReported()
    {
        double[] h = Hessian(80, seed: 3);
        h[(40 * 80) + 40] = -1;
        Assert.False(InverseFactor.TryCompute(h, 80, CpuThreads.Shared(2)));
    }

    [Theory]
    [InlineData(5, 48, 16, 15)]
    [InlineData(20, 100, 32, 7)]
    [InlineData(3, 64, 64, 3)]
    [InlineData(9, 300, 48, 15)]
    [InlineData(5, 300, 150, 7)]
    [InlineData(5, 290, 290, 15)]
    public void CodesEqualTheAuthorsAlgorithm(int rows, int columns, int group, int levels)
    {
        double[] h = Hessian(columns, seed: 11);
        float[] weights = Random(rows * columns, seed: 5);
        (byte[] expected, double expectedLoss) = Reference(weights, rows, columns, Dense(h, columns).Inverse(), group, levels);

        Assert.True(InverseFactor.TryCompute(h, columns, CpuThreads.Shared(2)));
        GptqSolver solver = new(Array.ConvertAll(h, x => (float)x), columns);
        byte[] codes = new byte[weights.Length];
        GroupRounder rounder = new(rows, columns, group, values => MinMax(values, levels));
        double loss = solver.Solve((float[])weights.Clone(), rows, codes, rounder, CpuThreads.Shared(2));

        // A value may lie within float rounding of the middle between two codes; after it, the rows go different ways.
        int differing = codes.Where((code, i) => code != expected[i]).Count();
        Assert.True(differing <= codes.Length / 100, $"{differing} of {codes.Length} codes differ");
        Assert.InRange(loss, expectedLoss * 0.99, expectedLoss * 1.01);
    }

    [Fact]
    public void TheNumberOfThreadsDoesNotChangeTheCodes()
    {
        const int Columns = 224;
        double[] h = Hessian(Columns, seed: 2);
        Assert.True(InverseFactor.TryCompute(h, Columns, CpuThreads.Shared(1)));
        float[] factor = Array.ConvertAll(h, x => (float)x);
        byte[][] codes = [.. new[] { 1, 2, 3 }.Select(threads =>
        {
            byte[] result = new byte[33 * Columns];
            GroupRounder rounder = new(33, Columns, 32, values => MinMax(values, 7));
            new GptqSolver(factor, Columns).Solve(Random(33 * Columns, seed: 9), 33, result, rounder, CpuThreads.Shared(threads));
            return result;
        })];
        Assert.Equal(codes[0], codes[1]);
        Assert.Equal(codes[0], codes[2]);
    }

    private static Grid MinMax(ReadOnlySpan<float> values, int levels)
    {
        float low = 0, high = 0;
        foreach (float value in values)
        {
            low = MathF.Min(low, value);
            high = MathF.Max(high, value);
        }

        float scale = MathF.Max((high - low) / levels, 1e-8f);
        return new Grid(scale, MathF.Round(-low / scale), levels);
    }

    /// <summary>Algorithm 1 of the paper, column by column, with U from the Cholesky factor of the inverse.</summary>
    private static (byte[] Codes, double Loss) Reference(float[] weights, int rows, int columns, Matrix<double> inverse, int group, int levels)
    {
        Matrix<double> u = inverse.Cholesky().Factor.Transpose();
        byte[] codes = new byte[weights.Length];
        double loss = 0;
        for (int row = 0; row < rows; row++)
        {
            double[] w = [.. weights.AsSpan(row * columns, columns).ToArray().Select(x => (double)x)];
            Grid grid = default;
            for (int i = 0; i < columns; i++)
            {
                if (i % group == 0)
                {
                    grid = MinMax(w.Skip(i).Take(group).Select(x => (float)x).ToArray(), levels);
                }

                int code = grid.Code((float)w[i]);
                codes[(row * columns) + i] = (byte)code;
                double error = (w[i] - grid.Value(code)) / u[i, i];
                loss += error * error;
                for (int j = i; j < columns; j++)
                {
                    w[j] -= error * u[i, j];
                }
            }
        }

        return (codes, loss);
    }

    private static bool IsUpper(Matrix<double> u) =>
        u.EnumerateIndexed().All(entry => entry.Item1 <= entry.Item2 || entry.Item3 == 0);

    private static Matrix<double> Dense(double[] values, int n) =>
        Matrix<double>.Build.Dense(n, n, (i, j) => values[(i * n) + j]);

    private static double[] Hessian(int n, int seed)
    {
        Random random = new(seed);
        double[] x = [.. Enumerable.Range(0, n * (n + 20)).Select(_ => random.NextDouble() - 0.5)];
        Matrix<double> samples = Matrix<double>.Build.Dense(n, n + 20, x);
        Matrix<double> h = (samples * samples.Transpose()) + (Matrix<double>.Build.DenseIdentity(n) * 0.01);
        double[] result = new double[n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                result[(i * n) + j] = h[i, j];
            }
        }

        return result;
    }

    private static float[] Random(int count, int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() + random.NextDouble() + random.NextDouble()) - 1.5))];
    }
}
