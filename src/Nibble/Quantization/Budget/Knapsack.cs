namespace Nibble.Quantization.Budget;

/// <summary>One way to store a matrix.</summary>
/// <param name="Bytes">What it takes.</param>
/// <param name="Loss">What it costs in quality.</param>
internal readonly record struct KnapsackOption(long Bytes, double Loss);

/// <summary>A solved choice.</summary>
/// <param name="Choice">The option of each item.</param>
/// <param name="Bytes">Bytes of all chosen options, at most the capacity.</param>
/// <param name="Loss">Their loss.</param>
/// <param name="LowerBound">No choice within the capacity has less loss than this; equal to <paramref name="Loss"/> where the solution is exact.</param>
internal sealed record KnapsackSolution(int[] Choice, long Bytes, double Loss, double LowerBound);

/// <summary>
/// The multiple-choice knapsack: one option of each item, at most so many bytes, least loss. Solved by dynamic programming over bytes
/// in steps of their greatest common divisor, which is exact; where that would take too many steps, sizes are rounded up to longer
/// ones (the capacity is still kept), and the Lagrangian dual bounds what was lost by it.
/// </summary>
internal static class Knapsack
{
    /// <summary>Steps of the table, unless told otherwise: 224 matrices of a 7B model take 60 MB and a second.</summary>
    public const int DefaultSteps = 1 << 18;

    /// <summary>The best choice, or null if even the smallest options do not fit.</summary>
    public static KnapsackSolution? Solve(IReadOnlyList<KnapsackOption[]> items, long capacity, int mostSteps = DefaultSteps)
    {
        long[] smallest = [.. items.Select(options => options.Min(option => option.Bytes))];
        long spare = capacity - smallest.Sum();
        if (spare < 0)
        {
            return null;
        }

        spare = Math.Min(spare, items.Select((options, i) => options.Max(option => option.Bytes) - smallest[i]).Sum());
        long divisor = Math.Max(1, items.SelectMany((options, i) => options.Select(option => option.Bytes - smallest[i])).Aggregate(0L, Gcd));
        long step = Math.Max(divisor, (spare + mostSteps - 1) / mostSteps);
        int[] choice = Choose(items, smallest, step, (int)(spare / step));
        KnapsackOption[] chosen = [.. items.Select((options, i) => options[choice[i]])];
        double loss = chosen.Sum(option => option.Loss);
        return new(choice, chosen.Sum(option => option.Bytes), loss, step == divisor ? loss : Math.Min(loss, DualBound(items, capacity)));
    }

    /// <summary>max over λ ≥ 0 of Σ min(loss + λ·bytes) − λ·capacity: a lower bound on the loss of every choice that fits.</summary>
    public static double DualBound(IReadOnlyList<KnapsackOption[]> items, long capacity)
    {
        // The dual is concave in λ; its slope is the bytes of the inner choice less the capacity.
        double low = 0, high = 1e-12;
        while (BytesAt(items, high) > capacity && high < 1e30)
        {
            high *= 4;
        }

        for (int i = 0; i < 200; i++)
        {
            double middle = (low + high) / 2;
            (low, high) = BytesAt(items, middle) > capacity ? (middle, high) : (low, middle);
        }

        return items.Sum(options => options.Min(option => option.Loss + (high * option.Bytes))) - (high * capacity);
    }

    private static double BytesAt(IReadOnlyList<KnapsackOption[]> items, double price) =>
        items.Sum(options => (double)options.MinBy(option => option.Loss + (price * option.Bytes)).Bytes);

    private static int[] Choose(IReadOnlyList<KnapsackOption[]> items, long[] smallest, long step, int steps)
    {
        double[] best = new double[steps + 1], next = new double[steps + 1];
        byte[][] taken = new byte[items.Count][];
        for (int i = 0; i < items.Count; i++)
        {
            Array.Fill(next, double.PositiveInfinity);
            taken[i] = new byte[steps + 1];
            for (int option = 0; option < items[i].Length; option++)
            {
                long size = StepsOf(items[i][option], smallest[i], step);
                if (size <= steps)
                {
                    Extend(best, next, taken[i], (int)size, items[i][option].Loss, (byte)option);
                }
            }

            (best, next) = (next, best);
        }

        int[] choice = new int[items.Count];
        for (int i = items.Count - 1, left = steps; i >= 0; i--)
        {
            choice[i] = taken[i][left];
            left -= (int)StepsOf(items[i][choice[i]], smallest[i], step);
        }

        return choice;
    }

    // A later option wins only if it is truly better, so that equal ones are decided by their order.
    private static void Extend(double[] best, double[] next, byte[] taken, int size, double loss, byte option)
    {
        for (int room = size; room < best.Length; room++)
        {
            double total = best[room - size] + loss;
            if (total < next[room])
            {
                (next[room], taken[room]) = (total, option);
            }
        }
    }

    private static long StepsOf(KnapsackOption option, long smallest, long step) => (option.Bytes - smallest + step - 1) / step;

    private static long Gcd(long a, long b) => b == 0 ? a : Gcd(b, a % b);
}
