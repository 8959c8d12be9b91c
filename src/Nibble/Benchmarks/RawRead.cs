using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu;
using Nibble.Tensors;

namespace Nibble.Benchmarks;

/// <summary>How fast the threads can read memory: the limit of decoding, which reads every weight once for a token.</summary>
internal static unsafe class RawRead
{
    /// <summary>
    /// Memory to read. Every page is written once: one that never was is, for every reader, the system's one page of zeros, which comes from
    /// the cache at several times the speed of memory.
    /// </summary>
    public static Tensor Memory(nint bytes)
    {
        const int page = 4096;
        Tensor data = Tensor.OnHost(new Shape(bytes), DType.U8);
        for (nint i = 0; i < bytes; i += page)
        {
            data.HostPointer[i] = 1;
        }

        return data;
    }

    /// <summary>Reads all bytes of a tensor once.</summary>
    public static void Run(Tensor data, CpuThreads threads)
    {
        ReadJob job = new() { Data = (float*)data.HostPointer, Count = data.ByteLength / sizeof(float) };
        threads.Run(job.Parts, job);
    }

    /// <summary>Bytes per second, over as many passes as fill <paramref name="seconds"/>.</summary>
    public static double BytesPerSecond(Tensor data, CpuThreads threads, double seconds)
    {
        double start = SpeedClock.Now;
        double bytes = 0, elapsed;
        do
        {
            Run(data, threads);
            bytes += data.ByteLength;
            elapsed = SpeedClock.Now - start;
        }
        while (elapsed < seconds);
        return bytes / elapsed;
    }

    private struct ReadJob : ICpuJob
    {
        private const nint PerPart = 1 << 18;
        public float* Data;
        public nint Count;

        public readonly int Parts => (int)((Count + PerPart - 1) / PerPart);

        // Four streams: the processor follows each with a prefetcher of its own, and one alone does not fill the memory's pipeline.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            nint count = nint.Min(PerPart, Count - (part * PerPart)) / 4;
            float* p0 = Data + (part * PerPart), p1 = p0 + count, p2 = p1 + count, p3 = p2 + count;
            Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default;
            for (nint i = 0; i + 16 <= count; i += 16)
            {
                s0 += Vector256.Load(p0 + i) + Vector256.Load(p0 + i + 8);
                s1 += Vector256.Load(p1 + i) + Vector256.Load(p1 + i + 8);
                s2 += Vector256.Load(p2 + i) + Vector256.Load(p2 + i + 8);
                s3 += Vector256.Load(p3 + i) + Vector256.Load(p3 + i + 8);
            }

            Sink.Value = Vector256.Sum(s0 + s1 + s2 + s3);
        }
    }

    /// <summary>Where results go that must not be optimized away.</summary>
    private static class Sink
    {
        public static volatile float Value;
    }
}
