namespace Nibble.Quantization.LowRank;

/// <summary>Eigenvalues and vectors of a small symmetric matrix by Jacobi's rotations (Golub and Van Loan, section 8.5).</summary>
internal static class SymmetricEigen
{
    private const int MostSweeps = 60;

    /// <summary>Values, largest first, and the vectors as columns of <c>[size, size]</c>.</summary>
    public static (double[] Values, double[] Vectors) Of(double[] matrix, int size)
    {
        double[] a = [.. matrix], vectors = new double[size * size];
        for (int i = 0; i < size; i++)
        {
            vectors[(i * size) + i] = 1;
        }

        for (int sweep = 0; sweep < MostSweeps && Rotate(a, vectors, size); sweep++)
        {
        }

        int[] order = [.. Enumerable.Range(0, size).OrderByDescending(i => a[(i * size) + i])];
        double[] sorted = new double[size * size];
        for (int row = 0; row < size; row++)
        {
            for (int column = 0; column < size; column++)
            {
                sorted[(row * size) + column] = vectors[(row * size) + order[column]];
            }
        }

        return ([.. order.Select(i => a[(i * size) + i])], sorted);
    }

    /// <summary>One sweep over all pairs; false once nothing is left beside the diagonal.</summary>
    private static bool Rotate(double[] a, double[] vectors, int size)
    {
        const double smallest = 1e-15;
        bool changed = false;
        for (int p = 0; p < size; p++)
        {
            for (int q = p + 1; q < size; q++)
            {
                double off = a[(p * size) + q], scale = Math.Sqrt(Math.Abs(a[(p * size) + p] * a[(q * size) + q]));
                if (Math.Abs(off) <= smallest * scale || off == 0)
                {
                    continue;
                }

                changed = true;
                double theta = (a[(q * size) + q] - a[(p * size) + p]) / (2 * off);
                double tangent = (theta >= 0 ? 1 : -1) / (Math.Abs(theta) + Math.Sqrt((theta * theta) + 1));
                double cosine = 1 / Math.Sqrt((tangent * tangent) + 1), sine = tangent * cosine;
                for (int k = 0; k < size; k++)
                {
                    Turn(a, (k * size) + p, (k * size) + q, cosine, sine);
                }

                for (int k = 0; k < size; k++)
                {
                    Turn(a, (p * size) + k, (q * size) + k, cosine, sine);
                    Turn(vectors, (k * size) + p, (k * size) + q, cosine, sine);
                }
            }
        }

        return changed;
    }

    private static void Turn(double[] values, int i, int j, double cosine, double sine) =>
        (values[i], values[j]) = ((cosine * values[i]) - (sine * values[j]), (sine * values[i]) + (cosine * values[j]));
}
