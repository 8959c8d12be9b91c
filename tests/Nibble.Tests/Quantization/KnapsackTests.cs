using Nibble.Quantization.Budget;

namespace Nibble.Tests.Quantization;

/// <summary>The choice within a budget against trying everything.</summary>
public sealed class KnapsackTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Finds_what_trying_everything_finds(int seed)
    {
        List<KnapsackOption[]> items = Items(seed, 6, 4);
        long least = items.Sum(options => options.Min(option => option.Bytes)), most = items.Sum(options => options.Max(option => option.Bytes));
        for (long capacity = least; capacity <= most + 100; capacity += Math.Max(1, (most - least) / 17))
        {
            KnapsackSolution solution = Knapsack.Solve(items, capacity)!;
            Assert.True(solution.Bytes <= capacity);
            Assert.Equal(Best(items, capacity), solution.Loss, 1e-9);
            Assert.Equal(solution.Loss, solution.LowerBound);
            Assert.True(Knapsack.DualBound(items, capacity) <= solution.Loss + 1e-9);
        }
    }

    [Fact]
    public void A_coarse_table_keeps_the_capacity_and_tells_its_bound()
    {
        List<KnapsackOption[]> items = Items(7, 40, 8);
        long capacity = items.Sum(options => (long)options.Average(option => option.Bytes));
        KnapsackSolution exact = Knapsack.Solve(items, capacity)!, coarse = Knapsack.Solve(items, capacity, 500)!;
        Assert.True(coarse.Bytes <= capacity);
        Assert.InRange(exact.Loss, coarse.LowerBound, coarse.Loss);
    }

    [Fact]
    public void Nothing_fits_below_the_smallest_options()
    {
        List<KnapsackOption[]> items = Items(5, 3, 3);
        long least = items.Sum(options => options.Min(option => option.Bytes));
        Assert.Null(Knapsack.Solve(items, least - 1));
        Assert.Equal(least, Knapsack.Solve(items, least)!.Bytes);
    }

    [Fact]
    public void Equal_choices_are_decided_by_their_order()
    {
        List<KnapsackOption[]> items = [[new(4, 1), new(4, 1), new(8, 1)], [new(4, 2), new(8, 1), new(8, 1)]];
        Assert.Equal([0, 1], Knapsack.Solve(items, 16)!.Choice);
    }

    private static List<KnapsackOption[]> Items(int seed, int count, int options)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => Enumerable.Range(0, options).Select(_ => new KnapsackOption(random.Next(1, 400), random.NextDouble())).ToArray())];
    }

    private static double Best(List<KnapsackOption[]> items, long capacity, int item = 0) => capacity < 0 ? double.PositiveInfinity
        : item == items.Count ? 0
        : items[item].Min(option => option.Loss + Best(items, capacity - option.Bytes, item + 1));
}
