using Nibble.Backends.Cpu;
using Nibble.IO;

namespace Nibble.Tests.Kernels;

public class CpuAffinityTests
{
    [Theory]
    [InlineData("0", new[] { 0 })]
    [InlineData("3,1", new[] { 3, 1 })]
    [InlineData("0,2,4-6", new[] { 0, 2, 4, 5, 6 })]
    public void ListsAndRangesKeepTheirOrder(string text, int[] expected) => Assert.Equal(expected, CpuAffinity.Parse(text));

    [Theory]
    [InlineData("two", "two")]
    [InlineData("0,,1", "neither a number")]
    [InlineData("3-1", "3-1")]
    [InlineData("-1", "neither a number")]
    [InlineData("0,99999", "99999")]
    [InlineData("0-2,1", "twice")]
    public void WhatNamesNoProcessorsIsRefused(string text, string named)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => CpuAffinity.Parse(text));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
        Assert.Contains("--affinity", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AThreadRunsWhereItIsBound()
    {
        if (!OperatingSystem.IsLinux())
        {
            // Elsewhere the system does not tell where a thread may run: binding must succeed, more can't be seen.
            Assert.Equal(OperatingSystem.IsWindows(), OnThread(() => CpuAffinity.Bind([0])));
            return;
        }

        int last = CpuAffinity.Allowed()[^1];
        int[] bound = OnThread(() =>
        {
            CpuAffinity.Require([last]);
            return CpuAffinity.Allowed();
        });
        Assert.Equal([last], bound);
        NibbleException error = Assert.Throws<NibbleException>(() => CpuAffinity.Require([1023]));
        Assert.Contains("1023", error.Message, StringComparison.Ordinal);
    }

    // A thread of its own: a binding stays for good.
    private static T OnThread<T>(Func<T> body)
    {
        T result = default!;
        Exception? error = null;
        Thread thread = new(() =>
        {
            try
            {
                result = body();
            }
            catch (Exception caught)
            {
                error = caught;
            }
        });
        thread.Start();
        thread.Join();
        return error is null ? result : throw error;
    }
}
