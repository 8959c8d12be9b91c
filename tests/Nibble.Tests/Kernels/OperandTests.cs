using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>Ops hold their operands: one that nobody else has any more is not freed while kernels work on it.</summary>
public class OperandTests
{
    // Doubling so many numbers takes some collections' time.
    private const int Large = 1 << 24, Rounds = 20;

    [Fact]
    public void ATensorWhoseLastUseIsAnOpOutlivesIt()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));

        // Only compiled with optimization does a method let go of its arguments before it ends.
        for (int i = 0; i < 200; i++)
        {
            Double(backend, 8, new Watch());
            Thread.Sleep(5);
        }

        Watch watch = new();
        using CancellationTokenSource end = new();
        Thread collector = new(() =>
        {
            while (!end.IsCancellationRequested)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        });
        collector.Start();
        for (int i = 0; i < Rounds; i++)
        {
            Double(backend, Large, watch);
            watch.Values.Clear();
        }

        end.Cancel();
        collector.Join();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.Equal(0, watch.Early);
        Assert.InRange(watch.Freed, 1, Rounds);
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Double(CpuBackend backend, int count, Watch watch) => backend.Kernels.Scale(New(count, watch), 2);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Tensor New(int count, Watch watch)
    {
        Tensor tensor = new(new Shape(count), DType.F32, new WatchedStorage(count, watch));
        tensor.HostSpan<float>()[^1] = 1;
        return tensor;
    }

    private sealed class Watch
    {
        public int Freed, Early;

        // So that what comes too early is counted, and does not end the process.
        public List<float[]> Values { get; } = [];
    }

    // The last number is doubled last: one that is not yet when the storage's finalizer comes was still at work.
    private sealed unsafe class WatchedStorage(int count, Watch watch) : HostStorage(count * sizeof(float))
    {
        private readonly float[] _values = Allocate(count, watch);

        public override byte* Pointer => (byte*)Unsafe.AsPointer(ref _values[0]);

        public override void Dispose() => GC.SuppressFinalize(this);

        private static float[] Allocate(int count, Watch watch)
        {
            float[] values = GC.AllocateUninitializedArray<float>(count, pinned: true);
            watch.Values.Add(values);
            return values;
        }

        ~WatchedStorage()
        {
            Interlocked.Increment(ref watch.Freed);
            if (_values[^1] != 2)
            {
                Interlocked.Increment(ref watch.Early);
            }
        }
    }
}
