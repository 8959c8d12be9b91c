using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>Outlier columns of rows and of the weights that they are multiplied with: <c>KeptCall</c> of <c>int8wide.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KeptCall
{
    public nint X, Outliers, Kept, Codes, Sums;
    public long Columns, PaddedColumns;
    public int Rows, Padded, TileRows, Unused;
    public PackedArgument Weight0, Weight1, Weight2;
    public nint Levels0, Levels1, Levels2;
    public long First0, First1, First2, Features0, Features1, Features2;

    /// <summary>Sets one of the weights.</summary>
    public void Set(int index, in PackedArgument weight, nint levels, nint first, nint features)
    {
        switch (index)
        {
            case 0:
                (Weight0, Levels0, First0, Features0) = (weight, levels, first, features);
                break;
            case 1:
                (Weight1, Levels1, First1, Features1) = (weight, levels, first, features);
                break;
            default:
                (Weight2, Levels2, First2, Features2) = (weight, levels, first, features);
                break;
        }
    }
}

/// <summary>Products of integers by warpgroups, for many rounded rows.</summary>
internal sealed unsafe class CudaInt8WideProducts(CachingMemory memory)
{
    // Constants of int8wide.cu and packed.cuh; blocks that gather outlier columns.
    private const int KeptOutliers = 64, UnitRows = 16, Blocks = 264, Threads = 256, MostCounters = 1 << 12;

    private readonly CudaCounters _counters = memory.Counters(MostCounters);

    /// <summary>Rows of a tile, in whose order codes must stand.</summary>
    public static int TileRowsOf(in Int8Product product, nint rows) => Plan(product, rows, CudaKernelNames.Int8WideRows).TileRows;

    /// <summary>Products of the same rows, whose codes lie in tiles.</summary>
    public void Multiply(RoundedRows rows, ReadOnlySpan<Int8Product> products)
    {
        KeptCall call = new()
        {
            X = rows.X, Outliers = rows.Outliers?.Address ?? 0, Codes = rows.Codes.Address, Sums = rows.Sums.Address, Columns = rows.Columns,
            PaddedColumns = rows.Width, Rows = (int)rows.Rows, Padded = (int)rows.Padded, TileRows = rows.TileRows,
        };
        WidePlan[] plans = new WidePlan[products.Length];
        nint levels = KeptOutliers * rows.Padded * sizeof(float), all = levels;
        for (int i = 0; i < plans.Length; i++)
        {
            plans[i] = Plan(products[i], rows.Rows, [rows.TileRows]);
            all += KeptOutliers * FeaturesOf(plans[i]) * sizeof(float);
        }

        using CudaStorage? kept = rows.Outliers is null ? null : memory.Rent(all, "activations");
        Span<nint> places = stackalloc nint[products.Length];
        for (int i = 0; i < plans.Length && kept is not null; levels += KeptOutliers * FeaturesOf(plans[i++]) * sizeof(float))
        {
            places[i] = kept.Address + levels;
            call.Set(i, products[i].Weight.Argument, places[i], products[i].Call.First / UnitRows * UnitRows, FeaturesOf(plans[i]));
        }

        if (kept is not null)
        {
            call.Kept = kept.Address;
            memory.Device.Launch(CudaKernelNames.Of("int8_kept"), new LaunchShape(Blocks, Threads, Overlaps: true), [KernelArgument.Structure(&call)]);
        }

        for (int i = 0; i < plans.Length; i++)
        {
            MultiplyOne(rows, products[i], plans[i], kept?.Address ?? 0, places[i]);
        }
    }

    private void MultiplyOne(RoundedRows rows, in Int8Product product, WidePlan plan, nint kept, nint levels)
    {
        Int8End end = rows.End(product.Call);
        using CudaStorage? parts = plan.RentParts(memory);
        WideCall wide = plan.Call(product.Weight, rows.Codes.Address, parts, _counters.Address) with
        {
            Bias = end.Bias, Y = end.Y, Stride = end.YStride, First = end.First, Count = end.Count, Rows = end.Rows, Type = CudaNumber.F32, Add = end.Add,
        };
        memory.Device.Launch(
            CudaKernelNames.Of($"int8_wide_{plan.TileRows}"), plan.Shape(WideProducts.SharedOfInt8(plan.TileRows)),
            [KernelArgument.Structure(&wide), KernelArgument.Structure(&end), kept, levels, (int)rows.Padded]);
    }

    private static WidePlan Plan(in Int8Product product, nint rows, int[] sizes) =>
        WideProducts.Plan(product.Call with { Rows = rows }, WideProducts.Units(product.Weight), sizes, integers: true);

    private static nint FeaturesOf(in WidePlan plan) => (nint)(plan.Tiles / plan.RowTiles) * WideProducts.TileFeatures;
}
