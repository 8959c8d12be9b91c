using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Bench.Benches;

/// <summary>What the machine can do at best, measured with the same threads and vectors as the kernels.</summary>
internal static unsafe class MachineLimits
{
    private const int PeakSteps = 200_000;

    /// <summary>Floating-point operations of one <see cref="RunPeak"/>.</summary>
    public static double PeakOperations(CpuVariant variant, int threads) =>
        2.0 * 12 * (variant.PanelWidth / 2) * PeakSteps * threads;

    /// <summary>Twelve independent chains of multiply-adds per thread, in registers.</summary>
    public static void RunPeak(CpuVariant variant, CpuThreads threads)
    {
        switch (variant.Isa)
        {
            case CpuIsa.Avx512: threads.Run(threads.Count, default(PeakJob<Lanes512, Vector512<float>>)); break;
            case CpuIsa.Avx2: threads.Run(threads.Count, default(PeakJob<Lanes256, Vector256<float>>)); break;
            case CpuIsa.Vector128: threads.Run(threads.Count, default(PeakJob<Lanes128, Vector128<float>>)); break;
            default: threads.Run(threads.Count, default(PeakJob<Lanes1, float>)); break;
        }
    }

    private struct PeakJob<S, V> : ICpuJob
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            V a = S.Set(0.999f), b = S.Set(1e-3f);
            V c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
            for (int i = 0; i < PeakSteps; i++)
            {
                c0 = S.MultiplyAdd(c0, a, b);
                c1 = S.MultiplyAdd(c1, a, b);
                c2 = S.MultiplyAdd(c2, a, b);
                c3 = S.MultiplyAdd(c3, a, b);
                c4 = S.MultiplyAdd(c4, a, b);
                c5 = S.MultiplyAdd(c5, a, b);
                c6 = S.MultiplyAdd(c6, a, b);
                c7 = S.MultiplyAdd(c7, a, b);
                c8 = S.MultiplyAdd(c8, a, b);
                c9 = S.MultiplyAdd(c9, a, b);
                c10 = S.MultiplyAdd(c10, a, b);
                c11 = S.MultiplyAdd(c11, a, b);
            }

            V sum = S.Add(S.Add(S.Add(c0, c1), S.Add(c2, c3)), S.Add(S.Add(c4, c5), S.Add(c6, c7)));
            Sink.Value = S.Sum(S.Add(sum, S.Add(S.Add(c8, c9), S.Add(c10, c11))));
        }
    }

    /// <summary>Where results go that must not be optimized away.</summary>
    private static class Sink
    {
        public static volatile float Value;
    }
}
