namespace Nibble.Evaluation.Classification;

/// <summary>
/// McNemar's test: whether two classifiers differ on the same rows. Only rows that one got right and the other wrong say anything
/// (Dietterich, Neural Computation 10(7), 1998).
/// </summary>
/// <param name="OnlyFirst">Rows that only the first got right.</param>
/// <param name="OnlySecond">Rows that only the second got right.</param>
public sealed record McNemar(int OnlyFirst, int OnlySecond)
{
    // From here on the chi-square approximation differs from the exact test by less than 0.001.
    private const int ExactUpTo = 1000;

    /// <summary>Compares two sets of predictions of the same rows.</summary>
    public static McNemar Of(IReadOnlyList<int> truth, IReadOnlyList<int> first, IReadOnlyList<int> second)
    {
        int onlyFirst = 0, onlySecond = 0;
        for (int i = 0; i < truth.Count; i++)
        {
            bool a = first[i] == truth[i], b = second[i] == truth[i];
            onlyFirst += a && !b ? 1 : 0;
            onlySecond += b && !a ? 1 : 0;
        }

        return new McNemar(onlyFirst, onlySecond);
    }

    /// <summary>The two-sided p-value: exact (binomial) for up to 1,000 differing rows, chi-square with continuity correction beyond.</summary>
    public double PValue
    {
        get
        {
            int differing = OnlyFirst + OnlySecond;
            if (differing == 0)
            {
                return 1;
            }

            return differing <= ExactUpTo ? Exact(differing) : ChiSquare(differing);
        }
    }

    /// <summary>2·P(X ≤ min) with X binomial(n, 1/2), at most 1.</summary>
    private double Exact(int differing)
    {
        double term = -differing * Math.Log(2), sum = 0;
        for (int k = 0; k <= Math.Min(OnlyFirst, OnlySecond); k++)
        {
            sum += Math.Exp(term);
            term += Math.Log(differing - k) - Math.Log(k + 1);
        }

        return Math.Min(1, 2 * sum);
    }

    private double ChiSquare(int differing)
    {
        double distance = Math.Max(0, Math.Abs(OnlyFirst - OnlySecond) - 1.0);
        return Erfc(Math.Sqrt(distance * distance / differing / 2));
    }

    /// <summary>1 − erf(x), x ≥ 0, to 1.2e-7 of its value (Numerical Recipes, erfcc).</summary>
    private static double Erfc(double x)
    {
        double t = 1 / (1 + (0.5 * x));
        double polynomial = -1.26551223 + (t * (1.00002368 + (t * (0.37409196 + (t * (0.09678418 + (t * (-0.18628806 + (t * (0.27886807
            + (t * (-1.13520398 + (t * (1.48851587 + (t * (-0.82215223 + (t * 0.17087277)))))))))))))))));
        return t * Math.Exp((-x * x) + polynomial);
    }
}
