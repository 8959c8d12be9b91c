using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Backends.Cpu.Packings;

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

    /// <summary>Operations of one <see cref="RunBytePeak"/>: a multiplication and an addition count two.</summary>
    public static double BytePeakOperations(CpuVariant variant, int threads) =>
        2.0 * 10 * 4 * (variant.Bytes.StripLanes / 2) * PeakSteps * threads;

    /// <summary>Ten independent chains a thread of the int8 products that codes of up to 4 bits take, in registers.</summary>
    public static void RunBytePeak(CpuVariant variant, CpuThreads threads)
    {
        switch (variant.Bytes)
        {
            case ByteKernels<Lanes256, Vector256<float>, BytesVnni, Vector256<byte>>: threads.Run(threads.Count, default(BytePeakJob<Vector256<float>, BytesVnni, Vector256<byte>>)); break;
            case ByteKernels<Lanes512, Vector512<float>, Bytes512, Vector512<byte>>: threads.Run(threads.Count, default(BytePeakJob<Vector512<float>, Bytes512, Vector512<byte>>)); break;
            case ByteKernels<Lanes256, Vector256<float>, Bytes256, Vector256<byte>>: threads.Run(threads.Count, default(BytePeakJob<Vector256<float>, Bytes256, Vector256<byte>>)); break;
            case ByteKernels<Lanes128, Vector128<float>, Bytes128, Vector128<byte>>: threads.Run(threads.Count, default(BytePeakJob<Vector128<float>, Bytes128, Vector128<byte>>)); break;
            default: threads.Run(threads.Count, default(BytePeakJob<float, Bytes1, Bytes1.Lane>)); break;
        }
    }

    private struct BytePeakJob<V, L, B> : ICpuJob
        where V : unmanaged
        where L : struct, IByteLanes<B, V>
        where B : unmanaged
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            B w = L.Broadcast(0x0f0f0f0f), x = L.Broadcast(part + 3);
            B c0 = L.Zero, c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0, c8 = c0, c9 = c0;
            for (int i = 0; i < PeakSteps; i++)
            {
                // The bytes differ, or the compiler would take one product for all.
                c0 = L.AddSmall(c0, w, c1);
                c1 = L.AddSmall(c1, w, c2);
                c2 = L.AddSmall(c2, w, c3);
                c3 = L.AddSmall(c3, w, c4);
                c4 = L.AddSmall(c4, w, c5);
                c5 = L.AddSmall(c5, w, c6);
                c6 = L.AddSmall(c6, w, c7);
                c7 = L.AddSmall(c7, w, c8);
                c8 = L.AddSmall(c8, w, c9);
                c9 = L.AddSmall(c9, w, x);
            }

            uint* result = stackalloc uint[16];
            L.Store(L.Or(L.Or(L.Or(c0, c1), L.Or(c2, c3)), L.Or(L.Or(c4, c5), L.Or(L.Or(c6, c7), L.Or(c8, c9)))), result);
            Sink.Value = result[0];
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
