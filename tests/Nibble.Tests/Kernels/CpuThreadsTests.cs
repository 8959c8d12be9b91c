using Nibble.Backends.Cpu;
using Nibble.IO;

namespace Nibble.Tests.Kernels;

public unsafe class CpuThreadsTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void EveryPartRunsOnce(int count)
    {
        CpuThreads threads = CpuThreads.Shared(count);
        for (int parts = 0; parts < 300; parts += 7)
        {
            int[] seen = new int[parts + 1];
            fixed (int* pointer = seen)
            {
                threads.Run(parts, new CountJob { Seen = pointer });
            }

            Assert.All(seen[..parts], times => Assert.Equal(1, times));
            Assert.Equal(0, seen[parts]);
        }
    }

    [Fact]
    public void WorkersSleepWhenThereIsNothingToDo()
    {
        CpuThreads threads = CpuThreads.Shared(5);
        int[] seen = new int[64];
        fixed (int* pointer = seen)
        {
            threads.Run(seen.Length, new CountJob { Seen = pointer });
        }

        // Half a minute is for a machine that is busy with other things: they need some 50 µs.
        Assert.True(SpinWait.SpinUntil(() => threads.Parked == 4, TimeSpan.FromSeconds(30)), $"{threads.Parked} of 4 workers sleep");
        Thread.Sleep(1);
        Assert.Equal(4, threads.Parked);
    }

    [Fact]
    public void NestedCallsRunInline()
    {
        int[] seen = new int[50];
        fixed (int* pointer = seen)
        {
            CpuThreads.Shared(2).Run(5, new OuterJob { Seen = pointer });
        }

        Assert.All(seen, times => Assert.Equal(1, times));
    }

    [Fact]
    public void SeveralCallersAtOnceAllGetTheirWorkDone()
    {
        Parallel.For(0, 8, _ =>
        {
            int[] seen = new int[100];
            for (int round = 1; round <= 200; round++)
            {
                fixed (int* pointer = seen)
                {
                    CpuThreads.Shared(3).Run(seen.Length, new CountJob { Seen = pointer });
                }

                Assert.All(seen, times => Assert.Equal(round, times));
            }
        });
    }

    [Fact]
    public void ParkedThreadsWakeUp()
    {
        int[] seen = new int[2];
        for (int round = 0; round < 5; round++)
        {
            Thread.Sleep(20);
            fixed (int* pointer = seen)
            {
                CpuThreads.Shared(2).Run(2, new CountJob { Seen = pointer });
            }
        }

        Assert.Equal([5, 5], seen);
    }

    [Fact]
    public void AnErrorInAPartReachesTheCallerAndThePoolGoesOn()
    {
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => CpuThreads.Shared(2).Run(8, new FailingJob { Error = new FormatException("part 3 fails") }));
        Assert.Contains("part 3", error.Message, StringComparison.Ordinal);
        Assert.Throws<OutOfMemoryException>(() => CpuThreads.Shared(2).Run(8, new FailingJob { Error = new OutOfMemoryException() }));
        EveryPartRunsOnce(2);
    }

    /// <summary>One thread, or a pool that another caller keeps busy: the same errors.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void ErrorsAreTheSameWhoeverRunsTheParts(int outer)
    {
        FailingJob format = new() { Error = new FormatException("part 3 fails") }, named = new() { Error = new NibbleException(ErrorKind.Usage, "named") };
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => CpuThreads.Shared(outer).Run(2, new OuterFailingJob { Inner = format }));
        Assert.Equal("a part of a CPU kernel failed: part 3 fails", error.Message);
        Assert.Throws<NibbleException>(() => CpuThreads.Shared(outer).Run(2, new OuterFailingJob { Inner = named }));
        EveryPartRunsOnce(2);
    }

    [Fact]
    public void RunningAllocatesNothing()
    {
        int[] seen = new int[64];
        fixed (int* pointer = seen)
        {
            CountJob job = new() { Seen = pointer };
            CpuThreads.Shared(2).Run(64, job);
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
            {
                CpuThreads.Shared(2).Run(64, job);
            }

            Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        }
    }

    private struct CountJob : ICpuJob
    {
        public int* Seen;

        public readonly void Execute(int part) => Interlocked.Increment(ref Seen[part]);
    }

    private struct OuterJob : ICpuJob
    {
        public int* Seen;

        public readonly void Execute(int part) => CpuThreads.Shared(2).Run(10, new CountJob { Seen = Seen + (10 * part) });
    }

    private struct OuterFailingJob : ICpuJob
    {
        public FailingJob Inner;

        public readonly void Execute(int part) => CpuThreads.Shared(2).Run(8, Inner);
    }

    private struct FailingJob : ICpuJob
    {
        public Exception Error;

        public readonly void Execute(int part)
        {
            if (part == 3)
            {
                throw Error;
            }
        }
    }
}
