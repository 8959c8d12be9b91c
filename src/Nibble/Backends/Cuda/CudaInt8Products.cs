using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>What the end of a product of integers needs: <c>Int8End</c> of <c>int8.cuh</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Int8End
{
    public nint X, Absmax, Sums, Outliers, Bias, Y;
    public long YStride, First, Count;
    public int Rows, Add;
}

/// <summary>A product of few rows with codes of 8 bits: <c>FewInt8Call</c> of <c>int8few.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FewInt8Call
{
    public FewCall Few;
    public nint Counter0, Counter1, Counter2;
    public float Threshold;
    public int Unused;

    /// <summary>Sets where a weight's outliers are counted.</summary>
    public void Count(int index, nint counter)
    {
        switch (index)
        {
            case 0:
                Counter0 = counter;
                break;
            case 1:
                Counter1 = counter;
                break;
            default:
                Counter2 = counter;
                break;
        }
    }
}

/// <summary>
/// Products of 8-bit weights with one scale a row and x on the grid of 8-bit integers: sums of integers on tensor cores, in one launch for few rows, from
/// the packed codes for up to <see cref="MostRows"/> rows, by cuBLASLt for more; on cards that multiply by warpgroups from the packed codes for any. LLM.int8's
/// outlier columns are added at the end.
/// </summary>
internal sealed unsafe class CudaInt8Products(CachingMemory memory)
{
    /// <summary>Rows whose product reads the packed codes.</summary>
    public const int MostRows = 256;

    /// <summary>Rows from which on products by warpgroups are faster, on cards that have them.</summary>
    public const int FewestWideRows = 65;

    // Constants of int8tensor.cu, int8wide.cu and tensor.cuh.
    private const int UnitRows = 16, UnitColumns = 128, Warps = 8, Threads = 256, Stages = 3, Stride = 160, EndRows = 32, OutliersAtOnce = 32, KeptOutliers = 32, BlockRows = 128, MostCounters = 1 << 14;

    // Constants of int8few.cu, and the most shared memory that a block of it may have besides its own where two share a multiprocessor.
    private const int FewRows = 8, FewSlots = 16, MostFewSharedByTwo = 102 << 10, MostFewColumns = 1 << 16;

    // Blocks that a card runs at once, about; integers have the same sums in any order.
    private const int Blocks = 264;
    private readonly CudaCounters _counters = memory.Counters(MostCounters);

    /// <summary>Bytes of sums that stand in memory at once, about, where cuBLASLt multiplies.</summary>
    public nint MostSumBytes { get; set; } = 256 << 20;

    /// <summary>y (+)= x·Wᵀ + bias with x rounded to 8 bits, unless the weight has another form.</summary>
    public bool TryMultiply(CudaPacking weight, in CudaProduct call)
    {
        nint blocks = (((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows) + Warps - 1) / Warps;
        if (!Takes(weight) || blocks > MostCounters)
        {
            return false;
        }

        if (SharedOfFew(weight.In, call.Rows) is { } shared)
        {
            FewInt8Call few = new()
            {
                Few = new FewCall { Rows = (int)call.Rows, X = call.X, First = call.First, Count = call.Count, Add = call.Add ? 1 : 0 }, Threshold = ThresholdOf(weight),
            };
            nint own = ((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows);
            few.Few.Set(0, weight.Argument, call.Bias, call.Y, call.YStride, (int)own);
            few.Count(0, CounterOf(weight));
            LaunchFew(few, own, shared);
            return true;
        }

        int eights = CudaKernelNames.Int8Eights.Last();
        nint units = (weight.In + UnitColumns - 1) / UnitColumns, width = units * UnitColumns;
        WidePlan? wide = memory.Device.HasGroupProducts && call.Rows >= FewestWideRows ? WideProducts.Plan(call, (int)units, CudaKernelNames.Int8WideRows, integers: true) : null;
        nint padded = wide is { } tiles ? (nint)tiles.RowTiles * tiles.TileRows : call.Rows <= 8 * eights ? 8 * CudaKernelNames.Int8Eights.First(Fits(call.Rows)) : (call.Rows + (8 * eights) - 1) / (8 * eights) * 8 * eights;
        float threshold = ThresholdOf(weight);
        nint counter = CounterOf(weight);
        using CudaStorage codes = memory.Rent(padded * width, "activations"), absmax = memory.Rent(padded * sizeof(float), "activations");
        using CudaStorage sums = memory.Rent(padded * sizeof(int), "activations");
        using CudaStorage? outliers = threshold > 0 ? memory.Rent((1 + weight.In) * sizeof(int), "activations") : null;
        Round(call, weight.In, padded, width, threshold, absmax.Address, codes.Address, sums.Address, outliers?.Address ?? 0, counter, wide?.TileRows ?? 0);
        Int8End end = new()
        {
            X = call.X, Absmax = absmax.Address, Sums = sums.Address, Outliers = outliers?.Address ?? 0, Bias = call.Bias, Y = call.Y, YStride = call.YStride,
            First = call.First, Count = call.Count, Rows = (int)call.Rows, Add = call.Add ? 1 : 0,
        };
        if (wide is { } plan)
        {
            MultiplyWide(weight, end, codes.Address, plan, (int)padded);
            return true;
        }

        if (call.Rows > MostRows && call.Count % 4 == 0)
        {
            MultiplyMatrix(weight, end, codes.Address, units);
            return true;
        }

        for (nint row = 0; row < call.Rows; row += 8 * eights)
        {
            nint rows = nint.Min(8 * eights, call.Rows - row);
            MultiplyCodes(weight, Part(weight, end, row, rows), codes.Address + (row * width), units, blocks);
        }

        return true;
    }

    /// <summary>
    /// Up to three products of the same few rows in one launch, with x normalized first if there is a norm; with <paramref name="gated"/>
    /// the first result becomes silu(first)·second. False if the weights don't share a way.
    /// </summary>
    public bool TryMultiply(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> products, bool gated)
    {
        CudaPacking first = (CudaPacking)products[0].Weight;
        if (products.Length > FewCall.MostWeights || SharedOfFew(first.In, rows) is not { } shared)
        {
            return false;
        }

        FewInt8Call call = new()
        {
            Few = new FewCall
            {
                Rows = (int)rows, X = x, Norm = norm.Kind, NormWeight = CudaStorage.AddressOf(norm.Weight), NormBias = CudaStorage.AddressOf(norm.Bias),
                Epsilon = norm.Epsilon, Gated = gated ? 1 : 0,
            },
            Threshold = ThresholdOf(first),
        };
        nint tiles = 0;
        for (int i = 0; i < products.Length; i++)
        {
            CudaPacking weight = (CudaPacking)products[i].Weight;
            if (!Takes(weight) || weight.Activations != ActivationType.Int8 || weight.In != first.In || weight.Out == 0 || ThresholdOf(weight) != call.Threshold
                || (gated && weight.Out != first.Out))
            {
                return false;
            }

            nint own = (weight.Out + UnitRows - 1) / UnitRows;
            call.Few.Set(i, weight.Argument, CudaStorage.AddressOf(products[i].Bias), CudaStorage.AddressOf(products[i].Result), weight.Out, (int)own);
            call.Count(i, CounterOf(weight));
            tiles = gated ? own : tiles + own;
        }

        LaunchFew(call, tiles, shared);
        return true;
    }

    private static bool Takes(CudaPacking weight)
    {
        ref PackedArgument argument = ref weight.Argument;
        return weight.Format == "affine8" && argument.GroupMode == CudaGroups.OfRow && argument.GroupsPerRow == 1 && argument.BiasForm == 0 && argument.NestedMap == 0;
    }

    private static float ThresholdOf(CudaPacking weight) => weight is LlmInt8CudaPacking llm ? llm.Threshold : 0;

    private static nint CounterOf(CudaPacking weight) => weight is LlmInt8CudaPacking llm ? llm.Counts : 0;

    // Sums of outlier columns, codes of the rows, a bit for each column, and a list of columns; null if they are too many for the card.
    private int? SharedOfFew(nint columns, nint rows)
    {
        nint padded = (columns + UnitColumns - 1) / UnitColumns * UnitColumns, shared = (2 * FewSlots * FewRows * UnitRows * sizeof(float)) + (rows * (padded + 32)) + (padded / 8) + (padded * sizeof(ushort));
        return rows <= FewRows && columns is > 0 and <= MostFewColumns && shared <= TensorProducts.MostShared(memory.Device.Facts) ? (int)shared : null;
    }

    private void LaunchFew(FewInt8Call call, nint tiles, int shared) =>
        memory.Device.Launch(
            CudaKernelNames.Of("few_int8"), new LaunchShape(nint.Min(tiles, (shared <= MostFewSharedByTwo ? 2 : 1) * memory.Device.Facts.Multiprocessors), Threads, 1, shared, Overlaps: true),
            [KernelArgument.Structure(&call)]);

    // Rows of x as codes, absmax and sums of codes; which columns stay as they are. The codes stand as stages of tiles if these have rows.
    private void Round(
        in CudaProduct call, nint columns, nint padded, nint width, float threshold, nint absmax, nint codes, nint sums, nint outliers, nint counter, int tileRows)
    {
        using CudaStorage? marks = threshold > 0 ? memory.Rent(width, "activations") : null;
        if (marks is not null)
        {
            memory.Device.Clear(marks.Address, marks.ByteLength);
        }

        memory.Device.Launch(CudaKernelNames.Of("int8_absmax"), new LaunchShape(call.Rows, Threads, Overlaps: true), [call.X, columns, threshold, absmax, marks?.Address ?? 0]);
        memory.Device.Launch(
            CudaKernelNames.Of("int8_codes"),
            new LaunchShape(padded, Threads, Overlaps: true),
            [call.X, columns, (int)call.Rows, width, absmax, marks?.Address ?? 0, codes, sums, outliers, counter, tileRows]);
    }

    private static Int8End Part(CudaPacking weight, in Int8End end, nint row, nint rows) => end with
    {
        X = end.X + (row * weight.In * sizeof(float)), Absmax = end.Absmax + (row * sizeof(float)), Sums = end.Sums + (row * sizeof(int)),
        Y = end.Y + (row * (nint)end.YStride * sizeof(float)), Rows = (int)rows,
    };

    private static Func<int, bool> Fits(nint rows) => eights => 8 * eights >= rows;

    private void MultiplyCodes(CudaPacking weight, Int8End end, nint codes, nint units, nint blocks)
    {
        int eights = CudaKernelNames.Int8Eights.First(Fits(end.Rows));
        int splits = Math.Clamp((int)(Blocks / blocks), 1, Math.Max(1, (int)units / 3));
        using CudaStorage parts = memory.Rent(blocks * splits * eights * 4 * Threads * sizeof(int), "activations");
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Of($"int8_rows_{eights}"),
                new LaunchShape(blocks, Threads, splits, Math.Max(Stages * 8 * eights * Stride, OutliersAtOnce * ((8 * eights) + BlockRows) * sizeof(float)), Overlaps: true),
                [KernelArgument.Structure(packed), codes, KernelArgument.Structure(&end), parts.Address, _counters.Address]);
        }
    }

    private void MultiplyWide(CudaPacking weight, Int8End end, nint codes, WidePlan plan, int padded)
    {
        nint features = (nint)(plan.Tiles / plan.RowTiles) * WideProducts.TileFeatures, first = (nint)end.First / UnitRows * UnitRows;
        using CudaStorage? kept = end.Outliers == 0 ? null : memory.Rent(KeptOutliers * (padded + features) * sizeof(float), "activations"), parts = plan.RentParts(memory);
        if (kept is not null)
        {
            fixed (PackedArgument* packed = &weight.Argument)
            {
                memory.Device.Launch(
                    CudaKernelNames.Of("int8_kept"), new LaunchShape(Blocks, Threads, Overlaps: true),
                    [end.X, weight.In, end.Rows, padded, end.Outliers, kept.Address, KernelArgument.Structure(packed), first, features]);
            }
        }

        WideCall wide = plan.Call(weight, codes, parts, _counters.Address) with
        {
            Bias = end.Bias, Y = end.Y, Stride = end.YStride, First = end.First, Count = end.Count, Rows = end.Rows, Type = CudaNumber.F32, Add = end.Add,
        };
        memory.Device.Launch(
            CudaKernelNames.Of($"int8_wide_{plan.TileRows}"), plan.Shape(WideProducts.SharedOfInt8(plan.TileRows)),
            [KernelArgument.Structure(&wide), KernelArgument.Structure(&end), kept?.Address ?? 0, padded]);
    }

    private void MultiplyMatrix(CudaPacking weight, Int8End end, nint codes, nint units)
    {
        nint width = units * UnitColumns, tiles = (nint)(((end.First + end.Count + UnitRows - 1) / UnitRows) - (end.First / UnitRows));
        nint rowBytes = (nint)end.Count * sizeof(int), step = nint.Min(end.Rows, nint.Max(EndRows, MostSumBytes / rowBytes / EndRows * EndRows));
        using CudaStorage matrix = memory.Rent((nint)end.Count * width, "decoded weights"), sums = memory.Rent(step * rowBytes, "activations");
        fixed (PackedArgument* packed = &weight.Argument)
        {
            KernelArgument argument = KernelArgument.Structure(packed);
            memory.Device.Launch(CudaKernelNames.Of("int8_matrix"), new LaunchShape(tiles, Threads, 2), [argument, (nint)end.First, (nint)end.Count, matrix.Address]);
            for (nint row = 0; row < end.Rows; row += step)
            {
                Int8End part = Part(weight, end, row, nint.Min(step, end.Rows - row));
                memory.Device.Multiply(new GemmCall(
                    matrix.Address, codes + (row * width), sums.Address, 0, end.Count, part.Rows, width, true, false, width, width, end.Count, DType.I8, false, DType.I32));
                memory.Device.Launch(
                    CudaKernelNames.Of("int8_end"),
                    new LaunchShape((end.Count + Threads - 1) / Threads, Threads, (part.Rows + EndRows - 1) / EndRows),
                    [argument, KernelArgument.Structure(&part), sums.Address]);
            }
        }
    }
}
