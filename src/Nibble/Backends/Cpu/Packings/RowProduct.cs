using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>A few rows of x times a packing, decoded in registers: two panels at a time.</summary>
internal static unsafe class RowProduct
{
    /// <summary>Rows up to which this is faster than decoding panels for the tiles of the dense product.</summary>
    public const int MostRows = 8;

    // Some microseconds of work.
    private const nint WeightsPerPart = 32 << 10;

    public static void Multiply(PanelPacking packing, in CpuMatMul call)
    {
        RowJob job = new() { Packing = packing, Call = call, Lanes = packing.Variant.PanelWidth };
        nint pairs = nint.Max(1, WeightsPerPart / (2 * job.Lanes * nint.Max(1, packing.In)));
        job.FeaturesPerPart = 2 * job.Lanes * pairs;
        call.Threads.Run(Parts.Count(call.Count, job.FeaturesPerPart), job);
    }

    private struct RowJob : ICpuJob
    {
        // Columns that are decoded at a time if a panel can't be multiplied as it stands: two panels of them fit in the first-level cache.
        private const int Piece = 128;
        private const int Depth = Gemm<Lanes1, float>.DepthBlock;

        // Rows of one pass over the weights, and features: two panels of two vectors of 16 floats.
        private const int TileRows = 4;
        private const int MostFeatures = 64;
        public PanelPacking Packing;
        public CpuMatMul Call;
        public int Lanes;
        public nint FeaturesPerPart;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            nint end = nint.Min(Call.Count, (part + 1) * FeaturesPerPart);
            bool isAligned = Packing.IsAligned;
            nint groups = Packing.Groups, floats = isAligned ? 4 * groups * Lanes : 2 * Piece * Lanes;
            using CpuScratch.Lease lease = CpuScratch.Rent(floats * sizeof(float));
            float* scratch = (float*)lease.Pointer;
            for (nint feature = part * FeaturesPerPart; feature < end; feature += 2 * Lanes)
            {
                nint panel = (Call.First + feature) / Lanes, second = Call.Count - feature > Lanes ? panel + 1 : panel;
                if (!isAligned)
                {
                    Multiply(feature, panel, second, scratch);
                    continue;
                }

                PanelSpan a = Packing.Span(panel, 0, Packing.In, 0, groups, scratch);
                PanelSpan b = second == panel ? a : Packing.Span(second, 0, Packing.In, 0, groups, scratch + (2 * groups * Lanes));
                for (nint row = 0; row < Call.Rows; row += TileRows)
                {
                    Multiply(feature, a, b, row, (int)nint.Min(TileRows, Call.Rows - row));
                }
            }
        }

        [SkipLocalsInit]
        private readonly void Multiply(nint feature, in PanelSpan a, in PanelSpan b, nint row, int rows)
        {
            float* y = stackalloc float[TileRows * MostFeatures], x = Call.Input + (row * Packing.In);
            nint stride = 2 * Lanes;
            for (int i = 0; i < (rows == 1 ? 1 : TileRows); i++)
            {
                Start(feature, y + (i * stride));
            }

            if (rows == 1)
            {
                Packing.Variant.Panels.MultiplyRow(a, b, x, y);
            }
            else
            {
                RowPointers pointers = RowPointers.Of(x, Packing.In, rows);
                Packing.Variant.Panels.MultiplyRows(a, pointers, y, stride);
                Packing.Variant.Panels.MultiplyRows(b, pointers, y + Lanes, stride);
            }

            for (int i = 0; i < rows; i++)
            {
                Finish(feature, y + (i * stride), row + i);
            }
        }

        /// <summary>The bias, or zeros.</summary>
        private readonly void Start(nint feature, float* y)
        {
            Span<float> sums = new(y, 2 * Lanes);
            int count = (int)nint.Min(2 * Lanes, Call.Count - feature);
            if (Call.FirstBias == null)
            {
                sums.Clear();
                return;
            }

            new Span<float>(Call.FirstBias + feature, count).CopyTo(sums);
            sums[count..].Clear();
        }

        private readonly void Finish(nint feature, float* y, nint row)
        {
            int count = (int)nint.Min(2 * Lanes, Call.Count - feature);
            new Span<float>(y, count).CopyTo(new Span<float>(Call.Output + (row * Call.YStride) + feature, count));
        }

        /// <summary>One row, panels decoded first.</summary>
        private readonly void Multiply(nint feature, nint panel, nint second, float* values)
        {
            float* y = stackalloc float[MostFeatures], block = stackalloc float[MostFeatures];
            Start(feature, y);
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

            Finish(feature, y, 0);
        }
    }
}
