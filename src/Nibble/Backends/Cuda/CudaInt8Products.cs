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

/// <summary>Products of up to three weights with the same rows: <c>Int8Call</c> of <c>int8tensor.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Int8Call
{
    public PackedArgument Weight0, Weight1, Weight2;
    public Int8End End0, End1, End2;
    public int Blocks0, Blocks1, Blocks2, Unused;

    /// <summary>Sets one of the weights.</summary>
    public void Set(int index, in PackedArgument weight, in Int8End end, int blocks)
    {
        switch (index)
        {
            case 0:
                (Weight0, End0, Blocks0) = (weight, end, blocks);
                break;
            case 1:
                (Weight1, End1, Blocks1) = (weight, end, blocks);
                break;
            default:
                (Weight2, End2, Blocks2) = (weight, end, blocks);
                break;
        }
    }
}

/// <summary>A weight, and what of its product is asked for; rows come from elsewhere.</summary>
internal readonly record struct Int8Product(CudaPacking Weight, CudaProduct Call);

/// <summary>
/// Products of 8-bit weights with one scale a row and x on the grid of 8-bit integers: sums of integers on tensor cores, in one launch for few rows, from
/// the packed codes for up to <see cref="MostRows"/> rows, by cuBLASLt for more; on cards that multiply by warpgroups from the packed codes for any. LLM.int8's
/// outlier columns are added at the end. Rows are rounded once for all products that read them.
/// </summary>
internal sealed unsafe class CudaInt8Products(CachingMemory memory)
{
    /// <summary>Rows whose product reads the packed codes.</summary>
    public const int MostRows = 256;

    /// <summary>Rows from which on products by warpgroups are faster, on cards that have them.</summary>
    public const int FewestWideRows = 65;

    // Constants of int8tensor.cu and tensor_many.cuh.
    private const int UnitRows = 16, UnitColumns = 128, Warps = 8, Threads = 256, Stages = 3, Stride = 160, EndRows = 32, OutliersAtOnce = 32, BlockRows = 128, MostCounters = 1 << 14;

    // Constants of int8few.cu, and the most shared memory that a block of it may have besides its own where two share a multiprocessor.
    private const int FewRows = 8, FewSlots = 16, MostFewSharedByTwo = 102 << 10, MostFewColumns = 1 << 16;

    // Blocks that a card runs at once, about; integers have the same sums in any order.
    private const int Blocks = 264;
    private readonly CudaCounters _counters = memory.Counters(MostCounters);
    private readonly CudaInt8Rounding _rounding = new(memory);
    private readonly CudaInt8WideProducts _wide = new(memory);

    /// <summary>Bytes of sums that stand in memory at once, about, where cuBLASLt multiplies.</summary>
    public nint MostSumBytes { get; set; } = 256 << 20;

    /// <summary>Rows up to which each block of a product rounds all rows by itself, at most 8: for more a launch of its own is faster.</summary>
    public int MostFewRows { get; set; } = 2;

    /// <summary>y (+)= x·Wᵀ + bias with x rounded to 8 bits, unless the weight has another form.</summary>
    public bool TryMultiply(CudaPacking weight, in CudaProduct call)
    {
        if (!Takes(weight) || BlocksOf(call) > MostCounters)
        {
            return false;
        }

        if (SharedOfFew(weight.In, call.Rows) is not { } shared)
        {
            return TryMultiply(new RowsToRound(call.X, call.Rows), [new(weight, call)]);
        }

        FewInt8Call few = new()
        {
            Few = new FewCall { Rows = (int)call.Rows, X = call.X, First = call.First, Count = call.Count, Add = call.Add ? 1 : 0 }, Threshold = ThresholdOf(weight),
        };
        nint own = TilesOf(call);
        few.Few.Set(0, weight.Argument, call.Bias, call.Y, call.YStride, (int)own);
        few.Count(0, CounterOf(weight));
        LaunchFew(few, own, shared);
        return true;
    }

    /// <summary>
    /// Up to three products of the same rows, with x normalized first if there is a norm: few rows in one launch, more of them rounded once; with
    /// <paramref name="gated"/>, which only few rows have, the first result becomes silu(first)·second. False if the weights don't share a way.
    /// </summary>
    public bool TryMultiply(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> products, bool gated)
    {
        CudaPacking first = (CudaPacking)products[0].Weight;
        if (products.Length > FewCall.MostWeights || !Takes(first) || !Alike(products, first, gated))
        {
            return false;
        }

        if (SharedOfFew(first.In, rows) is not { } shared)
        {
            return !gated && TryMultiply(new RowsToRound(x, rows) { Norm = norm }, Plain(products, rows));
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
            nint own = (weight.Out + UnitRows - 1) / UnitRows;
            call.Few.Set(i, weight.Argument, CudaStorage.AddressOf(products[i].Bias), CudaStorage.AddressOf(products[i].Result), weight.Out, (int)own);
            call.Count(i, CounterOf(weight));
            tiles = gated ? own : tiles + own;
        }

        LaunchFew(call, tiles, shared);
        return true;
    }

    /// <summary>down's result += (silu(g)·u)·downᵀ with g and u the products of norm(x), whose results are overwritten; for more than few rows.</summary>
    public bool TryGatedAdd(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> gateAndUp, in FusedProduct down)
    {
        CudaPacking first = (CudaPacking)gateAndUp[0].Weight, last = (CudaPacking)down.Weight;
        nint gate = CudaStorage.AddressOf(gateAndUp[0].Result);
        CudaProduct added = new(gate, rows, CudaStorage.AddressOf(down.Bias), CudaStorage.AddressOf(down.Result), last.Out, 0, last.Out, Add: true);
        if (!Takes(first) || !Takes(last) || !Alike(gateAndUp, first, gated: true) || last.In != first.Out || last.Out == 0 || SharedOfFew(first.In, rows) is not null
            || BlocksOf(added) > MostCounters || last.In > CudaInt8Rounding.MostColumns || !TryMultiply(new RowsToRound(x, rows) { Norm = norm }, Plain(gateAndUp, rows)))
        {
            return false;
        }

        return TryMultiply(new RowsToRound(gate, rows) { Up = CudaStorage.AddressOf(gateAndUp[1].Result) }, [new(last, added)]);
    }

    /// <summary>Magnitude from which x is an outlier, or 0.</summary>
    public static float ThresholdOf(CudaPacking weight) => weight is LlmInt8CudaPacking llm ? llm.Threshold : 0;

    /// <summary>Where a weight's outliers are counted, or 0.</summary>
    public static nint CounterOf(CudaPacking weight) => weight is LlmInt8CudaPacking llm ? llm.Counts : 0;

    private static bool Takes(CudaPacking weight)
    {
        ref PackedArgument argument = ref weight.Argument;
        return weight.Activations == ActivationType.Int8 && weight.Format == "affine8" && argument.GroupMode == CudaGroups.OfRow && argument.GroupsPerRow == 1
            && argument.BiasForm == 0 && argument.NestedMap == 0 && weight.In > 0;
    }

    // Weights that can be multiplied with the same rounded rows.
    private static bool Alike(ReadOnlySpan<FusedProduct> products, CudaPacking first, bool gated)
    {
        foreach (FusedProduct product in products)
        {
            CudaPacking weight = (CudaPacking)product.Weight;
            if (!Takes(weight) || weight.In != first.In || weight.Out == 0 || ThresholdOf(weight) != ThresholdOf(first) || (gated && weight.Out != first.Out))
            {
                return false;
            }
        }

        return true;
    }

    private static Int8Product[] Plain(ReadOnlySpan<FusedProduct> products, nint rows)
    {
        Int8Product[] plain = new Int8Product[products.Length];
        for (int i = 0; i < plain.Length; i++)
        {
            CudaPacking weight = (CudaPacking)products[i].Weight;
            plain[i] = new(weight, new CudaProduct(0, rows, CudaStorage.AddressOf(products[i].Bias), CudaStorage.AddressOf(products[i].Result), weight.Out, 0, weight.Out));
        }

        return plain;
    }

    // Units of 16 features, and blocks of 128.
    private static nint TilesOf(in CudaProduct call) => ((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows);

    private static nint BlocksOf(in CudaProduct call) => (TilesOf(call) + Warps - 1) / Warps;

    // Sums of outlier columns, codes of the rows, a bit for each column, and a list of columns; null if they are too many for the card.
    private int? SharedOfFew(nint columns, nint rows)
    {
        nint padded = (columns + UnitColumns - 1) / UnitColumns * UnitColumns, shared = (2 * FewSlots * FewRows * UnitRows * sizeof(float)) + (rows * (padded + 32)) + (padded / 8) + (padded * sizeof(ushort));
        return rows <= MostFewRows && columns is > 0 and <= MostFewColumns && shared <= TensorProducts.MostShared(memory.Device.Facts) ? (int)shared : null;
    }

    private void LaunchFew(FewInt8Call call, nint tiles, int shared) =>
        memory.Device.Launch(
            CudaKernelNames.Of("few_int8"), new LaunchShape(nint.Min(tiles, (shared <= MostFewSharedByTwo ? 2 : 1) * memory.Device.Facts.Multiprocessors), Threads, 1, shared, Overlaps: true),
            [KernelArgument.Structure(&call)]);

    // Rounds rows once, for all products.
    private bool TryMultiply(in RowsToRound input, ReadOnlySpan<Int8Product> products)
    {
        nint blocks = 0;
        foreach (Int8Product product in products)
        {
            blocks += BlocksOf(product.Call);
        }

        if (blocks > MostCounters || products[0].Weight.In > CudaInt8Rounding.MostColumns)
        {
            return false;
        }

        int eights = CudaKernelNames.Int8Eights.Last();
        bool wide = memory.Device.HasGroupProducts && input.Rows >= FewestWideRows;
        int tileRows = wide ? CudaInt8WideProducts.TileRowsOf(products[0], input.Rows) : 0;
        nint step = wide ? tileRows : 8 * (input.Rows <= 8 * eights ? CudaKernelNames.Int8Eights.First(Fits(input.Rows)) : eights);
        using RoundedRows rounded = _rounding.Round(input, products, (input.Rows + step - 1) / step * step, tileRows);
        if (wide)
        {
            _wide.Multiply(rounded, products);
            return true;
        }

        bool fours = true;
        foreach (Int8Product product in products)
        {
            fours &= product.Call.Count % 4 == 0;
        }

        if (rounded.Rows > MostRows && fours)
        {
            foreach (Int8Product product in products)
            {
                MultiplyMatrix(rounded, product);
            }

            return true;
        }

        for (nint row = 0; row < rounded.Rows; row += 8 * eights)
        {
            MultiplyCodes(rounded, products, row, nint.Min(8 * eights, rounded.Rows - row), blocks);
        }

        return true;
    }

    private static Int8End Part(in RoundedRows rounded, in Int8Product product, nint row, nint rows)
    {
        Int8End end = rounded.End(product.Call);
        return end with
        {
            X = end.X + (row * rounded.Columns * sizeof(float)), Absmax = end.Absmax + (row * sizeof(float)), Sums = end.Sums + (row * sizeof(int)),
            Y = end.Y + (row * (nint)end.YStride * sizeof(float)), Rows = (int)rows,
        };
    }

    private static Func<int, bool> Fits(nint rows) => eights => 8 * eights >= rows;

    // Parts of the columns: few rounds of blocks that are as full as can be. A round and a part cost something of their own.
    private static int Splits(nint blocks, nint units) => Enumerable.Range(1, Math.Max(1, (int)units / 3)).MinBy(splits =>
    {
        double rounds = ((blocks * splits) + Blocks - 1) / Blocks;
        return (rounds / splits) + (0.05 * rounds) + (0.004 * splits);
    });

    private void MultiplyCodes(RoundedRows rounded, ReadOnlySpan<Int8Product> products, nint row, nint rows, nint blocks)
    {
        int eights = CudaKernelNames.Int8Eights.First(Fits(rows)), splits = Splits(blocks, rounded.Units);
        Int8Call call = default;
        for (int i = 0; i < products.Length; i++)
        {
            call.Set(i, products[i].Weight.Argument, Part(rounded, products[i], row, rows), (int)BlocksOf(products[i].Call));
        }

        using CudaStorage parts = memory.Rent(blocks * splits * eights * 4 * Threads * sizeof(int), "activations");
        memory.Device.Launch(
            CudaKernelNames.Of($"int8_rows_{eights}"),
            new LaunchShape(blocks, Threads, splits, Math.Max(Stages * 8 * eights * Stride, OutliersAtOnce * ((8 * eights) + BlockRows) * sizeof(float)), Overlaps: true),
            [KernelArgument.Structure(&call), rounded.Codes.Address + (row * rounded.Width), parts.Address, _counters.Address]);
    }

    private void MultiplyMatrix(RoundedRows rounded, in Int8Product product)
    {
        CudaProduct call = product.Call;
        nint width = rounded.Width, rowBytes = call.Count * sizeof(int), step = nint.Min(call.Rows, nint.Max(EndRows, MostSumBytes / rowBytes / EndRows * EndRows));
        using CudaStorage matrix = memory.Rent(call.Count * width, "decoded weights"), sums = memory.Rent(step * rowBytes, "activations");
        fixed (PackedArgument* packed = &product.Weight.Argument)
        {
            KernelArgument argument = KernelArgument.Structure(packed);
            memory.Device.Launch(CudaKernelNames.Of("int8_matrix"), new LaunchShape(TilesOf(call), Threads, 2), [argument, call.First, call.Count, matrix.Address]);
            for (nint row = 0; row < call.Rows; row += step)
            {
                Int8End part = Part(rounded, product, row, nint.Min(step, call.Rows - row));
                memory.Device.Multiply(new GemmCall(
                    matrix.Address, rounded.Codes.Address + (row * width), sums.Address, 0, call.Count, part.Rows, width, true, false, width, width, call.Count, DType.I8, false, DType.I32));
                memory.Device.Launch(
                    CudaKernelNames.Of("int8_end"),
                    new LaunchShape((call.Count + Threads - 1) / Threads, Threads, (part.Rows + EndRows - 1) / EndRows),
                    [argument, KernelArgument.Structure(&part), sums.Address]);
            }
        }
    }
}
