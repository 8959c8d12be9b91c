using System.Runtime.Intrinsics;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Hqq;

/// <summary>
/// The half-quadratic solver of HQQ (Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023), in its
/// authors' form: scales come from the range of each group and stay; zero points are moved so that the error is small in an ℓp norm
/// with p &lt; 1, which forgives outliers. In turns, the error is shrunk, and the zero is the mean that explains what is left:
/// <c>e = shrink(w − ŵ)</c>, <c>zero = mean(q − (w − e)·s⁻¹)</c>, until the mean error of the whole matrix stops falling. Their article lets β grow by
/// 1 % a round; their default solver does not any more (hqq, commit e0b1d00), and at 1 bit, where 20 rounds are too few to end, that is 5 % of error.
/// </summary>
internal sealed class HqqSolver
{
    private const float LpNorm = 0.7f;
    private const float Beta = 10;

    /// <summary>Most rounds.</summary>
    public const int Iterations = 20;

    private const float SmallestRange = 1e-4f;
    private const float LargestInverse = 2e4f;

    private readonly Tensor _groups;
    private readonly float _levels;
    private readonly float[] _inverse;
    private readonly float[] _zeros;

    private HqqSolver(Tensor groups, int bits)
    {
        _groups = groups;
        _levels = (1 << bits) - 1;
        _inverse = new float[groups.Shape[0]];
        _zeros = new float[groups.Shape[0]];
    }

    /// <summary>Finds 1/scale and the real zero point of each group.</summary>
    /// <param name="groups">F32 <c>[groups, group size]</c>: each row is a group.</param>
    /// <param name="bits">Bits of a code.</param>
    public static (float[] Inverse, float[] Zeros) Solve(Tensor groups, int bits)
    {
        HqqSolver solver = new(groups, bits);
        solver.Start(roundZeros: bits == 4);
        solver.Iterate();
        return (solver._inverse, solver._zeros);
    }

    private void Start(bool roundZeros) => Spread.Over(_inverse.Length, _groups.Shape[1], (first, last) =>
    {
        for (nint group = first; group < last; group++)
        {
            (float min, float max) = VectorSearch.Range(Group(group));
            float range = max - min;
            _inverse[group] = range <= SmallestRange ? 1 : MathF.Min(_levels / range, LargestInverse);
            float zero = -min * _inverse[group];
            _zeros[group] = roundZeros ? MathF.Round(zero) : zero;
        }
    });

    private void Iterate()
    {
        const float shrink = 1 / Beta;
        double best = double.PositiveInfinity;
        double[] errors = new double[_inverse.Length];
        for (int i = 0; i < Iterations; i++)
        {
            Spread.Over(_inverse.Length, _groups.Shape[1] * 8, (first, last) =>
            {
                for (nint group = first; group < last; group++)
                {
                    (errors[group], _zeros[group]) = Step(Group(group), _inverse[group], _zeros[group], shrink);
                }
            });
            double error = errors.Sum();
            if (!(error < best))
            {
                return;
            }

            best = error;
        }
    }

    /// <summary>The sum of |w − ŵ| before the step, and the zero point after it.</summary>
    private (double Error, float Zero) Step(ReadOnlySpan<float> values, float inverse, float zero, float shrink)
    {
        int i = 0;
        double error = 0, sum = 0;
        Vector256<float> errors = Vector256<float>.Zero, sums = Vector256<float>.Zero;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            Vector256<float> w = Vector256.Create(values[i..]);
            Vector256<float> q = Vector256.Round((w * inverse) + Vector256.Create(zero));
            q = Vector256.Min(Vector256.Max(q, Vector256<float>.Zero), Vector256.Create(_levels));
            Vector256<float> difference = w - ((q - Vector256.Create(zero)) / inverse);
            Vector256<float> size = Vector256.Abs(difference);
            // |x|^(p − 1) by logarithm: for 0 it is infinite, and the shrunk value is 0 as it must be.
            Vector256<float> kept = Vector256.Max(size - (Vector256.Exp(Vector256.Log(size) * (LpNorm - 1)) * shrink), Vector256<float>.Zero);
            sums += q - ((w - Vector256.CopySign(kept, difference)) * inverse);
            errors += size;
        }

        error += Vector256.Sum(errors);
        sum += Vector256.Sum(sums);
        for (; i < values.Length; i++)
        {
            float q = Math.Clamp(MathF.Round((values[i] * inverse) + zero), 0, _levels);
            float difference = values[i] - ((q - zero) / inverse), size = MathF.Abs(difference);
            float kept = MathF.Max(size - (MathF.Pow(size, LpNorm - 1) * shrink), 0);
            sum += q - ((values[i] - MathF.CopySign(kept, difference)) * inverse);
            error += size;
        }

        return (error, (float)(sum / values.Length));
    }

    private ReadOnlySpan<float> Group(nint index) => _groups.Slice(index, 1).HostSpan<float>();
}
