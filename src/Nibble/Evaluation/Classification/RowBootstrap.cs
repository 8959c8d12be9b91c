using Nibble.Evaluation.Metrics;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Evaluation.Classification;

/// <summary>95 % intervals of classification metrics: rows are drawn again, 2,000 times (percentile bootstrap).</summary>
internal sealed class RowBootstrap(ulong seed)
{
    private const int Draws = 2000;

    /// <summary>The interval of <paramref name="metric"/>, a function of the numbers of the drawn rows.</summary>
    public (double Low, double High) Interval(int rows, Func<int[], double> metric)
    {
        double[] values = new double[Draws];
        Spread.Over(Draws, rows, (first, last) =>
        {
            int[] drawn = new int[rows];
            for (nint draw = first; draw < last; draw++)
            {
                ulong key = CounterRandom.Key(seed, (ulong)draw);
                for (int i = 0; i < rows; i++)
                {
                    drawn[i] = (int)(CounterRandom.Bits(key, (ulong)i) % (ulong)rows);
                }

                values[draw] = metric(drawn);
            }
        });
        Array.Sort(values);
        return (BlockBootstrap.Percentile(values, 0.025), BlockBootstrap.Percentile(values, 0.975));
    }
}
