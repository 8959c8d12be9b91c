using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>One row of x times a packing, two panels at a time.</summary>
internal static unsafe class RowProduct
{
    public static void Multiply(PanelPacking packing, in CpuMatMul call)
    {
        RowJob job = new() { Packing = packing, Call = call, Lanes = packing.Variant.PanelWidth };
        nint pairs = nint.Max(1, WeightsPerPart / (2 * job.Lanes * nint.Max(1, packing.In)));
        job.FeaturesPerPart = 2 * job.Lanes * pairs;
        call.Threads.Run(Parts.Count(call.Count, job.FeaturesPerPart), job);
    }

    // Some microseconds of work.
    private const nint WeightsPerPart = 32 << 10;

    private struct RowJob : ICpuJob
    {
        // Columns that are decoded at a time if a panel can't be multiplied as it stands: two panels of them fit in the first-level cache.
        private const int Piece = 128;
        private const int Depth = Gemm<Lanes1, float>.DepthBlock;

        // Two panels of two vectors of 16 floats.
        private const int MostFeatures = 64;
        public PanelPacking Packing;
        public CpuMatMul Call;
        public int Lanes;
        public nint FeaturesPerPart;

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            nint end = nint.Min(Call.Count, (part + 1) * FeaturesPerPart);
            bool isAligned = Packing.IsAligned;
            nint floats = isAligned ? 4 * Packing.Groups * Lanes : 2 * Piece * Lanes;
            using CpuScratch.Lease scratch = CpuScratch.Rent(floats * sizeof(float));
            float* y = stackalloc float[MostFeatures];
            for (nint feature = part * FeaturesPerPart; feature < end; feature += 2 * Lanes)
            {
                Span<float> target = new(Call.Output + feature, (int)nint.Min(2 * Lanes, Call.Count - feature));
                Span<float> sums = new(y, 2 * Lanes);
                if (Call.FirstBias == null || target.Length < sums.Length)
                {
                    sums.Clear();
                }

                if (Call.FirstBias != null)
                {
                    new Span<float>(Call.FirstBias + feature, target.Length).CopyTo(sums);
                }

                nint panel = (Call.First + feature) / Lanes, second = target.Length > Lanes ? panel + 1 : panel;
                if (isAligned)
                {
                    Multiply(panel, second, (float*)scratch.Pointer, y);
                }
                else
                {
                    DecodeAndMultiply(panel, second, (float*)scratch.Pointer, y);
                }

                sums[..target.Length].CopyTo(target);
            }
        }

        private readonly void Multiply(nint panel, nint second, float* scratch, float* y)
        {
            nint groups = Packing.Groups;
            PanelSpan a = Packing.Span(panel, 0, Packing.In, 0, groups, scratch);
            PanelSpan b = second == panel ? a : Packing.Span(second, 0, Packing.In, 0, groups, scratch + (2 * groups * Lanes));
            Packing.Variant.Panels.MultiplyRow(a, b, Call.Input, y);
        }

        private readonly void DecodeAndMultiply(nint panel, nint second, float* values, float* y)
        {
            float* block = stackalloc float[2 * Lanes];
            for (nint k = 0; k < Packing.In; k += Depth)
            {
                new Span<float>(block, 2 * Lanes).Clear();
                nint end = nint.Min(Packing.In, k + Depth);
                for (nint piece = k; piece < end; piece += Piece)
                {
                    nint columns = nint.Min(Piece, end - piece);
                    Packing.Decode(panel, piece, columns, values);
                    Packing.Decode(second, piece, columns, values + (Piece * Lanes));
                    Packing.Variant.Panels.AddRow(Call.Input + piece, columns, values, values + (Piece * Lanes), block);
                }

                for (int i = 0; i < 2 * Lanes; i++)
                {
                    y[i] = block[i] + y[i];
                }
            }
        }
    }
}
