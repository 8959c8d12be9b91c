using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>Rows that are rounded: <c>RoundCall</c> of <c>int8round.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct RoundCall
{
    public nint X, Up, NormWeight, NormBias, Made, Absmax, Codes, Sums, Outliers, Marks, Counter0, Counter1, Counter2;
    public long Columns, Padded;
    public int Rows, TileRows;
    public NormKind Norm;
    public int Held, Drops;
    public float Threshold, Epsilon;
    public int Unused;
}

/// <summary>What rows on the grid of 8-bit integers are made from.</summary>
/// <param name="X">F32 rows on the card.</param>
/// <param name="Rows">Rows.</param>
internal readonly record struct RowsToRound(nint X, nint Rows)
{
    /// <summary>x is normalized first.</summary>
    public InputNorm Norm { get; init; }

    /// <summary>silu(x)·up is rounded, which takes the place of x; or 0.</summary>
    public nint Up { get; init; }
}

/// <summary>Rows on the grid of 8-bit integers.</summary>
/// <param name="X">The rows before they were rounded.</param>
/// <param name="Rows">Rows.</param>
/// <param name="Padded">Rows with those of zeros that fill the last tile.</param>
/// <param name="Columns">Columns.</param>
/// <param name="TileRows">Rows of a tile of products by warpgroups, in whose order codes stand; 0 for plain rows.</param>
internal sealed record RoundedRows(nint X, nint Rows, nint Padded, nint Columns, int TileRows) : IDisposable
{
    private const int UnitColumns = 128;

    /// <summary>Units of 128 columns.</summary>
    public nint Units { get; } = (Columns + UnitColumns - 1) / UnitColumns;

    /// <summary>Columns of codes.</summary>
    public nint Width => Units * UnitColumns;

    /// <summary>Codes, a byte each.</summary>
    public required CudaStorage Codes { get; init; }

    /// <summary>The largest magnitude of each row.</summary>
    public required CudaStorage Absmax { get; init; }

    /// <summary>The sum of each row's codes.</summary>
    public required CudaStorage Sums { get; init; }

    /// <summary>How many columns are outliers, and which; null if none may be.</summary>
    public CudaStorage? Outliers { get; init; }

    /// <summary>The memory of what was made, if it has its own.</summary>
    public CudaStorage? Made { get; init; }

    /// <summary>What the end of a product with these rows needs.</summary>
    public Int8End End(in CudaProduct call) => new()
    {
        X = X, Absmax = Absmax.Address, Sums = Sums.Address, Outliers = Outliers?.Address ?? 0, Bias = call.Bias, Y = call.Y, YStride = call.YStride,
        First = call.First, Count = call.Count, Rows = (int)Rows, Add = call.Add ? 1 : 0,
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        Codes.Dispose();
        Absmax.Dispose();
        Sums.Dispose();
        Outliers?.Dispose();
        Made?.Dispose();
    }
}

/// <summary>Rounds rows to 8 bits and finds outlier columns, in one launch for all products that read them.</summary>
internal sealed unsafe class CudaInt8Rounding(CachingMemory memory)
{
    // Constants of int8round.cu: threads of a block; a bit for each column, and one counter.
    private const int ManyThreads = 512, MostMarks = 1 << 14;

    // Columns from which on rows without a norm, whose sums ask for an order, take more threads.
    private const int LongRow = 8192;

    private readonly CudaCounters _marks = memory.Counters(MostMarks + 1);

    /// <summary>The most columns that rows may have.</summary>
    public const int MostColumns = MostMarks * 32;

    /// <summary>Rounds rows.</summary>
    /// <param name="input">The rows.</param>
    /// <param name="weights">What they are multiplied with: 8-bit weights of one width and threshold.</param>
    /// <param name="padded">Rows with those of zeros.</param>
    /// <param name="tileRows">Rows of a tile of products by warpgroups, or 0. Where there are some, codes of outlier columns still stand in rows that have no outlier there.</param>
    public RoundedRows Round(in RowsToRound input, ReadOnlySpan<Int8Product> weights, nint padded, int tileRows)
    {
        CudaPacking first = weights[0].Weight;
        float threshold = CudaInt8Products.ThresholdOf(first);
        // Rows of x, and of up, that fit a block's memory.
        nint rowBytes = Width(first.In) * sizeof(float), most = TensorProducts.MostShared(memory.Device.Facts);
        int held = input.Up != 0 && 2 * rowBytes <= most ? 2 : rowBytes <= most ? 1 : 0;
        bool normed = input.Norm.Kind != NormKind.None;
        // Who reads it again: the end of products, and a block that can't hold its row.
        bool makes = (normed || input.Up != 0) && (threshold > 0 || held == 0);
        CudaStorage? made = makes && normed ? memory.Rent(input.Rows * first.In * sizeof(float), "activations") : null;
        RoundedRows rows = new(made?.Address ?? input.X, input.Rows, padded, first.In, tileRows)
        {
            Codes = memory.Rent(padded * Width(first.In), "activations"), Absmax = memory.Rent(padded * sizeof(float), "activations"),
            Sums = memory.Rent(padded * sizeof(int), "activations"), Made = made,
            Outliers = threshold > 0 ? memory.Rent((1 + first.In) * sizeof(int), "activations") : null,
        };
        RoundCall call = new()
        {
            X = input.X, Up = input.Up, NormWeight = CudaStorage.AddressOf(input.Norm.Weight), NormBias = CudaStorage.AddressOf(input.Norm.Bias),
            Made = makes ? rows.X : 0, Absmax = rows.Absmax.Address, Codes = rows.Codes.Address, Sums = rows.Sums.Address,
            Outliers = rows.Outliers?.Address ?? 0, Marks = threshold > 0 ? _marks.Address : 0, Columns = first.In, Padded = rows.Width,
            Rows = (int)input.Rows, TileRows = tileRows, Norm = input.Norm.Kind, Held = held, Drops = tileRows == 0 ? 1 : 0,
            Threshold = threshold, Epsilon = input.Norm.Epsilon,
            Counter0 = CudaInt8Products.CounterOf(first), Counter1 = weights.Length > 1 ? CudaInt8Products.CounterOf(weights[1].Weight) : 0,
            Counter2 = weights.Length > 2 ? CudaInt8Products.CounterOf(weights[2].Weight) : 0,
        };
        int threads = !normed && first.In > LongRow ? ManyThreads : CudaGrid.Rows(1, first.In).Threads;
        memory.Device.Launch(CudaKernelNames.Of("int8_round"), new LaunchShape(padded, threads, 1, held * (int)rowBytes, Overlaps: true), [KernelArgument.Structure(&call)]);
        return rows;
    }

    private static nint Width(nint columns) => (columns + 127) / 128 * 128;
}
