using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>The matrix that a layer and its low-rank adapter are together.</summary>
internal static class LoraMerge
{
    /// <summary>matrix = W + s·B·A, each row with its magnitude if the adapter has some; sums in double precision.</summary>
    public static void Into(Tensor matrix, LoraPair pair, IBackend backend)
    {
        Add(matrix, pair.A, pair.B, pair.Scale, backend);
        if (pair.Start is { } start)
        {
            Add(matrix, start.A, start.B, -pair.Scale, backend);
        }

        if (pair.Magnitude is null)
        {
            return;
        }

        float[] magnitudes = new float[matrix.Shape[0]];
        backend.Read<float>(pair.Magnitude, magnitudes);
        for (int row = 0; row < magnitudes.Length; row++)
        {
            Resize(matrix.Slice(row, 1).HostSpan<float>(), magnitudes[row]);
        }
    }

    /// <summary>matrix += scale·B·A.</summary>
    public static void Add(Tensor matrix, IPackedWeight a, IPackedWeight b, float scale, IBackend backend)
    {
        using Tensor left = ParameterRows.Dense(backend, b), right = ParameterRows.Dense(backend, a);
        int rank = (int)a.Out, columns = (int)a.In;
        double[] row = new double[columns];
        for (int i = 0; i < (int)b.Out; i++)
        {
            Array.Clear(row);
            for (int r = 0; r < rank; r++)
            {
                double factor = left.HostSpan<float>()[(i * rank) + r];
                ReadOnlySpan<float> direction = right.HostSpan<float>().Slice(r * columns, columns);
                for (int k = 0; k < columns; k++)
                {
                    row[k] += factor * direction[k];
                }
            }

            Span<float> values = matrix.Slice(i, 1).HostSpan<float>();
            for (int k = 0; k < columns; k++)
            {
                values[k] = (float)(values[k] + (scale * row[k]));
            }
        }
    }

    private static void Resize(Span<float> row, float magnitude)
    {
        double square = 0;
        foreach (float value in row)
        {
            square += (double)value * value;
        }

        double factor = magnitude / Math.Sqrt(Math.Max(square, 1e-30));
        foreach (ref float value in row)
        {
            value = (float)(value * factor);
        }
    }
}
