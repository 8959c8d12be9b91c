using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>A product of many rows: <c>WideCall</c> of <c>wide.cuh</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WideCall
{
    public PackedArgument Weight;
    public nint X, Bias, Y;
    public long Stride, First, Count;
    public nint Parts, Counters;
    public int Rows, RowTiles, Tiles, Whole, Splits;
    public CudaNumber Type;
    public int Add, Plain, Lead;
}

/// <summary>How rows and features become tiles, and which of them have their columns split so that all blocks have work.</summary>
/// <param name="TileRows">Rows of x a tile.</param>
/// <param name="RowTiles">Tiles above each other.</param>
/// <param name="Tiles">Tiles in all.</param>
/// <param name="Whole">Tiles that stay whole; they come first.</param>
/// <param name="Splits">Parts of each of the others; the block of the last one waits for the others, which earlier blocks or turns have.</param>
internal readonly record struct WidePlan(int TileRows, int RowTiles, int Tiles, int Whole, int Splits)
{
    /// <summary>What blocks do at once.</summary>
    public int Items => Whole + ((Tiles - Whole) * Splits);

    /// <summary>The plan that keeps a card busy best.</summary>
    /// <param name="features">Features, in tiles of 128.</param>
    /// <param name="rows">Rows of x.</param>
    /// <param name="units">Units of 128 columns.</param>
    /// <param name="blocks">Blocks at once; a constant, so that sums keep their order on any card.</param>
    /// <param name="sizes">Rows that a tile may have.</param>
    /// <param name="integers">x on the grid of 8-bit integers.</param>
    public static WidePlan Of(int features, int rows, int units, int blocks, IEnumerable<int> sizes, bool integers = false)
    {
        WidePlan best = default;
        double least = double.PositiveInfinity;
        foreach (int tileRows in sizes)
        {
            int rowTiles = (rows + tileRows - 1) / tileRows, tiles = rowTiles * features;
            for (int splits = 1; splits <= Math.Min(8, units); splits++)
            {
                WidePlan plan = new(tileRows, rowTiles, tiles, splits == 1 ? tiles : tiles / blocks * blocks, splits);
                double cost = plan.Cost(units, blocks, integers);
                if (cost < least)
                {
                    (best, least) = (plan, cost);
                }
            }
        }

        return best;
    }

    /// <summary>What the kernel must know of the plan, the weight and the stages of x.</summary>
    public WideCall Call(CudaPacking weight, nint x, CudaStorage? parts, nint counters) => new()
    {
        Weight = weight.Argument, X = x, Parts = parts?.Address ?? 0, Counters = counters, RowTiles = RowTiles, Tiles = Tiles, Whole = Whole, Splits = Splits,
        Lead = Lead(WideProducts.Units(weight)),
    };

    // Units that the last part of a tile is longer: about what the others take to write theirs.
    private int Lead(int units) => Splits == 1 ? 0 : Math.Min(TileRows == 256 ? 2 : 1, units / Splits / 4);

    /// <summary>Memory for the parts of tiles; null if all stay whole.</summary>
    public CudaStorage? RentParts(CachingMemory memory) =>
        Tiles == Whole ? null : memory.Rent((nint)(Tiles - Whole) * (Splits - 1) * TileRows * WideProducts.TileFeatures * sizeof(float), "activations");

    /// <summary>The kernel's launch.</summary>
    public LaunchShape Shape(int sharedBytes) => new(Math.Min(Items, WideProducts.Blocks), WideProducts.Threads, 1, sharedBytes, Overlaps: true);

    // In microseconds on an H100, fitted to products of LLaMA-7B's shapes by every plan: a unit, what comes once, each further round, and each part, which
    // goes to memory and back.
    private double Cost(int units, int blocks, bool integers)
    {
        (double unit, double once, double round, double part) = (TileRows, integers) switch
        {
            (64, _) => (0.73, 2.5, 1.6, 0.011),
            (128, false) => (0.855, 3.5, 2.2, 0.022),
            (_, false) => (1.25, 2.9, 3.1, 0.046),
            (128, true) => (0.43, 5.8, 4.5, 0.06),
            (_, true) => (0.63, 12.0, 9.0, 0.09),
        };
        int parts = (Tiles - Whole) * Splits, wholeRounds = (Whole + blocks - 1) / blocks, partRounds = (parts + blocks - 1) / blocks;
        int lead = Lead(units);
        double ofUnits = unit * ((units * wholeRounds) + (((double)(units - lead) / Splits + lead) * partRounds));
        return once + (round * (wholeRounds + partRounds - 1)) + ofUnits + (Splits > 1 ? part * parts : 0);
    }
}

/// <summary>
/// Products of more rows than <see cref="TensorProducts"/> takes, straight from the packed weight, on cards that multiply by warpgroups. Packed
/// values are rounded to BF16 as those of a matrix are.
/// </summary>
internal sealed unsafe class WideProducts(CachingMemory memory)
{
    // Constants of wide.cuh.
    private const int UnitRows = 16, UnitColumns = 128, Groups = 2, Warps = 4 * Groups, StageRow = 128, TurnedBytes = 9216, LevelTable = 1 << 16, MostCounters = 1 << 12;

    /// <summary>Threads of a block, and features of a tile.</summary>
    public const int Threads = (128 * Groups) + 128, TileFeatures = 64 * Groups;

    /// <summary>Blocks that a card runs at once: its multiprocessors. A constant, so that sums keep their order on any card.</summary>
    public const int Blocks = 132;

    /// <summary>Rows from which on these are faster than the other ways.</summary>
    public const int FewestRows = 33;

    private readonly CudaCounters _counters = memory.Counters(MostCounters);

    /// <summary>y (+)= x·Wᵀ + bias, unless the card, the weight or the number of rows has no kernel here.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="call">What is multiplied; the bias is F32.</param>
    /// <param name="x">How x is stored: F32 or BF16.</param>
    /// <param name="y">How y is stored: F32 or BF16.</param>
    public bool TryMultiply(CudaPacking weight, in CudaProduct call, CudaNumber x, CudaNumber y)
    {
        if (!Takes(weight, call.Rows))
        {
            return false;
        }

        Multiply(weight, call, Plan(call, Units(weight), CudaKernelNames.WideRows), weight.TensorFormat!, x, y);
        return true;
    }

    /// <summary>True if card, weight and number of rows have a kernel here.</summary>
    public bool Takes(CudaPacking weight, nint rows) =>
        rows >= FewestRows && weight.TensorFormat is { } format && CudaKernelNames.WideFormats.Contains(format) && rows <= MostRows(format)
        && memory.Device.HasGroupProducts;

    /// <summary>
    /// Rows up to which a format's products are faster than its weight as BF16 with a library's product (1,024 rows × 11008×4096 on an H100: 169 µs that way;
    /// NF4 144, 4 bits 171, groups of 32 196, 3 bits 204).
    /// </summary>
    public static int MostRows(string format) =>
        format.StartsWith("codebook", StringComparison.Ordinal) ? 2048 : BitsOf(format) == 3 || format.EndsWith(CudaKernelNames.Small, StringComparison.Ordinal) ? 768 : 1024;

    /// <summary>The same by a plan.</summary>
    public void Multiply(CudaPacking weight, in CudaProduct call, in WidePlan plan, string format, CudaNumber x, CudaNumber y)
    {
        int units = Units(weight), rows = (int)call.Rows;
        // Codes of 4 bits are turned into the order of x; for others x comes in theirs.
        bool plain = x == CudaNumber.BF16 && BitsOf(format) == 4 && weight.In % 8 == 0 && call.X % 16 == 0;
        using CudaStorage? stages = plain ? null : memory.Rent((nint)plan.RowTiles * units * 2 * plan.TileRows * StageRow, "activations"), parts = plan.RentParts(memory);
        StageMap map = plain ? memory.Device.MapStages(call.X, rows, weight.In, plan.TileRows) : default;
        if (stages is not null)
        {
            memory.Device.Launch(
                CudaKernelNames.Of("wide_rows"),
                CudaGrid.Elements(stages.ByteLength / 16) with { Overlaps = true },
                [call.X, (int)x, weight.In, rows, plan.TileRows, stages.Address]);
        }

        WideCall wide = plan.Call(weight, stages?.Address ?? 0, parts, _counters.Address) with
        {
            Bias = call.Bias, Y = call.Y, Stride = call.YStride, First = call.First, Count = call.Count, Rows = rows, Type = y, Add = call.Add ? 1 : 0, Plain = plain ? 1 : 0,
        };
        memory.Device.Launch(
            CudaKernelNames.Wide(format, plan.TileRows), plan.Shape(SharedOf(format, plan.TileRows)), [KernelArgument.Structure(&wide), KernelArgument.Structure(&map)]);
    }

    /// <summary>The plan of a product; tiles that are split are fewer than blocks.</summary>
    /// <param name="call">The product.</param>
    /// <param name="units">Units of 128 columns.</param>
    /// <param name="sizes">Rows that a tile may have.</param>
    /// <param name="integers">x on the grid of 8-bit integers.</param>
    public static WidePlan Plan(in CudaProduct call, int units, int[] sizes, bool integers = false)
    {
        nint tiles = ((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows);
        return WidePlan.Of((int)((tiles + Warps - 1) / Warps), (int)call.Rows, units, Blocks, sizes, integers);
    }

    /// <summary>Shared memory of the products of integers: INT8_WIDE's stages, and what WideIntegers' end needs.</summary>
    public static int SharedOfInt8(int tileRows)
    {
        (int ofX, int ofW) = tileRows == 128 ? (7, 4) : (4, 3);
        return Shared(tileRows, ofX, ofW, 8 * 256, ((256 * 2) + (8 * (256 + 64))) * sizeof(float));
    }

    /// <summary>Units of 128 columns.</summary>
    public static int Units(CudaPacking weight) => (int)((weight.In + UnitColumns - 1) / UnitColumns);

    // WideShape of wide.cuh, with WIDE_FORMAT's stages.
    private static int SharedOf(string format, int tileRows)
    {
        bool small = format.EndsWith(CudaKernelNames.Small, StringComparison.Ordinal);
        if (format.StartsWith("codebook", StringComparison.Ordinal))
        {
            return (2 * LevelTable) + ((tileRows switch { 64 => 8, 128 => 5, _ => 3 }) * tileRows * StageRow);
        }

        int bits = BitsOf(format), planes = small ? 6 : 3, table = bits == 3 ? 64 * 128 : 0;
        (int ofX, int ofW) = tileRows switch { 64 => (8, small ? 4 : 5), 128 => (5, 4), _ => (bits == 8 ? 3 : 4, 4) };
        return Shared(tileRows, ofX, ofW, (bits * 256) + (planes * 128), TurnedBytes) + table;
    }

    private static int BitsOf(string format) => format.Split('_')[0][^1] - '0';

    private static int Shared(int tileRows, int ofX, int ofW, int warpBytes, int endBytes) =>
        2048 + (ofX * tileRows * StageRow) + (ofW * Warps * warpBytes) + (Groups * endBytes);
}
