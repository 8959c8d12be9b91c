using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Backends.Cpu.PackCache;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// A dense matrix in its own dtype, as panels of two vectors' worth of output features: <c>[panel][k][lane]</c>. One row of x
/// streams the panels as they stand (no horizontal sums), and so does the tile of the blocked product: one copy serves both.
/// 16-bit panels are in pair order (<see cref="PanelLayout"/>).
/// </summary>
internal sealed unsafe class DensePacking<S, V, L> : CpuPacking
    where S : struct, ILanes<V>
    where V : unmanaged
    where L : struct, IPanelLoader
{
    // Up to here a tile reads the weights straight from the packing; beyond, 16-bit weights are widened once per block of rows.
    private const int DirectRows = Gemm<S, V>.TileRows;
    private const nint BytesPerPart = 64 << 10;

    private readonly HostStorage _storage;
    private readonly DType _dtype;

    // F16 has machine code of its own where there is any.
    private readonly bool _hasHalfTiles;

    public DensePacking(Tensor weight, CpuVariant variant, CpuThreads threads)
        : base(weight.Shape[0], weight.Shape[1], variant)
    {
        _dtype = weight.DType;
        _hasHalfTiles = HasHalfTiles(_dtype, variant);
        _storage = new NativeStorage(checked(Panels * PanelBytes));
        PackJob job = new() { Packing = this, Source = weight.HostPointer };
        threads.Run(checked((int)Panels), job);
    }

    public DensePacking(PackReader reader, DType dtype, CpuVariant variant)
        : base(reader.Size(), reader.Size(), variant)
    {
        _dtype = dtype;
        _hasHalfTiles = HasHalfTiles(dtype, variant);
        _storage = reader.Block(checked(Panels * PanelBytes));
    }

    public override nint ByteLength => _storage.ByteLength;

    public override string Name => _dtype.ToString().ToLowerInvariant();

    public override float* FloatPanels => _dtype == DType.F32 ? (float*)_storage.Pointer : null;

    public override Tensor? FloatValues => _dtype == DType.F32
        ? new Tensor(new Shape(Panels * In * Width), DType.F32, _storage, ownsStorage: false)
        : null;

    private static int Width => 2 * S.Count;

    private nint Panels => (Out + Width - 1) / Width;

    private static bool HasHalfTiles(DType dtype, CpuVariant variant) => dtype == DType.F16 && variant is { HasMachineCode: true, IsSupported: true };

    private nint PanelBytes => checked(In * Width * _dtype.Size());

    public override QuantizedWeight? Unpack() => null;

    public override void Save(PackWriter writer)
    {
        writer.Number((int)_dtype);
        writer.Flag(typeof(L) == typeof(FiniteHalfLoader));
        writer.Number(Out);
        writer.Number(In);
        writer.Block(_storage);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void DecodeRow(nint row, nint start, nint count, float* destination)
    {
        byte* panel = _storage.Pointer + (row / Width * PanelBytes);
        int lane = (int)(row % Width);
        if (_dtype == DType.F32)
        {
            float* source = (float*)panel + (start * Width) + lane;
            for (nint k = 0; k < count; k++)
            {
                destination[k] = source[k * Width];
            }

            return;
        }

        ushort* half = (ushort*)panel + (start * Width) + PanelLayout.PairIndex(lane, S.Count);
        for (nint k = 0; k < count; k++)
        {
            ushort bits = half[k * Width];
            destination[k] = _dtype == DType.BF16
                ? BitConverter.UInt32BitsToSingle((uint)bits << 16)
                : (float)BitConverter.UInt16BitsToHalf(bits);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void DecodePanel(nint first, int rows, nint start, nint count, float* destination)
    {
        nint step = Width * _dtype.Size();
        byte* source = _storage.Pointer + (first / Width * PanelBytes) + (start * step);
        for (nint k = 0; k < count; k++, source += step, destination += Width)
        {
            S.Store(L.First<S, V>(source), destination);
            S.Store(L.Second<S, V>(source), destination + S.Count);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void DecodePairs(nint first, int rows, uint* destination)
    {
        byte* panel = _storage.Pointer + (first / Width * PanelBytes);
        if (_dtype == DType.F32)
        {
            BFloat16Layout.RoundPairs((float*)panel, In, Width, destination);
        }
        else if (_dtype == DType.BF16 && S.Count >= Vector128<uint>.Count)
        {
            BFloat16Layout.PairRows((ushort*)panel, In, S.Count, destination);
        }
        else
        {
            base.DecodePairs(first, rows, destination);
        }
    }

    public override void MatMul(in CpuMatMul call)
    {
        if (call.Rows > DirectRows)
        {
            Variant.Gemm(this, call);
            return;
        }

        if (call.Rows == 0 || call.Count == 0)
        {
            return;
        }

        using CpuScratch.Lease packed = CpuScratch.Rent(Gemm<S, V>.TileRows * In * sizeof(float));
        PackedRows.PackTile(call.Input, In, call.Rows, In, (float*)packed.Pointer);
        if (Gemm<S, V>.KernelRows(call.Rows) < 4)
        {
            RunDirect<L>(call, (float*)packed.Pointer);
        }
        else
        {
            RunDirect<Streamed<L>>(call, (float*)packed.Pointer);
        }
    }

    public override void Dispose() => _storage.Dispose();

    public override void Round(CpuThreads threads, float* panels)
    {
        RoundJob job = new() { Packing = this, Source = panels };
        threads.Run(checked((int)Panels), job);
    }

    private void RunDirect<T>(in CpuMatMul call, float* packed)
        where T : struct, IPanelLoader
    {
        DirectJob<T> job = new()
        {
            Packing = this,
            Packed = packed,
            Call = call,
            PanelsPerPart = 4 * nint.Max(1, BytesPerPart / nint.Max(1, 4 * PanelBytes)),
        };
        call.Threads.Run(job.Parts, job);
    }

    /// <summary>Rows of x fewer than a tile: the weights are read once, in storage order.</summary>
    private struct DirectJob<T> : ICpuJob
        where T : struct, IPanelLoader
    {
        public DensePacking<S, V, L> Packing;
        public float* Packed;
        public CpuMatMul Call;
        public nint PanelsPerPart;

        public readonly int Parts => checked((int)((Call.Count + (PanelsPerPart * Width) - 1) / (PanelsPerPart * Width)));

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            int rows = Gemm<S, V>.KernelRows(Call.Rows);
            nint feature = part * PanelsPerPart * Width;
            nint end = nint.Min(Call.Count, feature + (PanelsPerPart * Width));
            while (feature < end)
            {
                int panels = Gemm<S, V>.KernelPanels(rows, (end - feature + Width - 1) / Width);
                RunPanels(rows, panels, feature);
                feature += panels * Width;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void RunPanels(int rows, int panels, nint feature)
        {
            nint depth = Packing.In;
            nint step = Width * Packing._dtype.Size();
            byte* weights = Packing._storage.Pointer + ((Call.First + feature) / Width * Packing.PanelBytes);
            float* bias = Call.FirstBias;
            for (nint k = 0; k < nint.Max(depth, 1); k += Gemm<S, V>.DepthBlock)
            {
                Tile tile = new()
                {
                    Depth = nint.Min(Gemm<S, V>.DepthBlock, depth - k),
                    A = Packed + (k * rows),
                    AStep = rows,
                    B = weights + (k * step),
                    BStep = step,
                    PanelBytes = Packing.PanelBytes,
                    C = Call.Output + feature,
                    CStride = Call.YStride,
                };
                tile.Start = k > 0 ? tile.C : bias == null ? null : bias + feature;
                tile.StartStride = k > 0 ? Call.YStride : 0;
                bool isWhole = rows == Call.Rows && Call.Count - feature >= panels * Width;
                if (!(isWhole && Packing._hasHalfTiles && HalfKernels.TryRun(rows, panels, tile)))
                {
                    Gemm<S, V>.RunTile<T>(rows, panels, Call.Rows, Call.Count - feature, tile);
                }
            }
        }
    }

    private struct PackJob : ICpuJob
    {
        // A block of k whose panel rows fit in the first-level cache: each of its lines is written once per lane.
        private const int Block = 128;
        public DensePacking<S, V, L> Packing;
        public byte* Source;

        public readonly void Execute(int part)
        {
            nint first = (nint)part * Width;
            int rows = (int)nint.Min(Width, Packing.Out - first);
            byte* destination = Packing._storage.Pointer + (part * Packing.PanelBytes);
            int paired = Packing._dtype == DType.F32 ? 0 : Math.Max(0, rows - S.Count), last = paired == 0 ? rows : S.Count;
            for (nint k = 0; k < Packing.In; k += Block)
            {
                nint end = nint.Min(Packing.In, k + Block);
                for (int lane = 0; lane < paired; lane++)
                {
                    CopyPair((first + lane) * Packing.In, lane, k, end, destination);
                }

                for (int lane = paired; lane < last; lane++)
                {
                    Copy((first + lane) * Packing.In, lane, k, end, destination);
                }
            }
        }

        // Rows lane and lane + Count are neighbours in the panel: one store for both.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void CopyPair(nint row, int lane, nint k, nint end, byte* destination)
        {
            ushort* first = (ushort*)Source + row, second = first + (S.Count * Packing.In);
            uint* target = (uint*)destination + lane;
            for (; k < end; k++)
            {
                target[k * S.Count] = first[k] | ((uint)second[k] << 16);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Copy(nint row, int lane, nint k, nint end, byte* destination)
        {
            if (Packing._dtype == DType.F32)
            {
                float* source = (float*)Source + row;
                float* target = (float*)destination + lane;
                for (; k < end; k++)
                {
                    target[k * Width] = source[k];
                }
            }
            else
            {
                ushort* source = (ushort*)Source + row;
                ushort* target = (ushort*)destination + PanelLayout.PairIndex(lane, S.Count);
                for (; k < end; k++)
                {
                    target[k * Width] = source[k];
                }
            }
        }
    }

    /// <summary>A panel of F32 to a panel of the packing's dtype.</summary>
    private struct RoundJob : ICpuJob
    {
        public DensePacking<S, V, L> Packing;
        public float* Source;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Execute(int part)
        {
            float* source = Source + (part * Packing.In * Width);
            byte* target = Packing._storage.Pointer + (part * Packing.PanelBytes);
            for (nint k = 0; k < Packing.In; k++, source += Width)
            {
                for (int lane = 0; lane < Width; lane++)
                {
                    Write(target, k, lane, source[lane]);
                }
            }
        }

        private readonly void Write(byte* target, nint k, int lane, float value)
        {
            if (Packing._dtype == DType.F32)
            {
                ((float*)target)[(k * Width) + lane] = value;
                return;
            }

            ((ushort*)target)[(k * Width) + PanelLayout.PairIndex(lane, S.Count)] = Packing._dtype == DType.BF16
                ? TensorConvert.F32ToBF16(value)
                : BitConverter.HalfToUInt16Bits((Half)value);
        }
    }
}
