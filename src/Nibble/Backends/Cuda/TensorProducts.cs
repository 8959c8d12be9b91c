using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>A product of few rows: <c>FewCall</c> of <c>tensor_few.cuh</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FewCall
{
    public const int MostWeights = 3;

    public PackedArgument Weight0, Weight1, Weight2;
    public nint Bias0, Bias1, Bias2, Result0, Result1, Result2;
    public long Stride0, Stride1, Stride2;
    public int Tiles0, Tiles1, Tiles2, Rows;
    public nint X, NormWeight, NormBias;
    public long First, Count;
    public NormKind Norm;
    public float Epsilon;
    public int Add, Gated;

    /// <summary>Sets one of the weights.</summary>
    public void Set(int index, in PackedArgument weight, nint bias, nint result, long stride, int tiles)
    {
        switch (index)
        {
            case 0:
                (Weight0, Bias0, Result0, Stride0, Tiles0) = (weight, bias, result, stride, tiles);
                break;
            case 1:
                (Weight1, Bias1, Result1, Stride1, Tiles1) = (weight, bias, result, stride, tiles);
                break;
            default:
                (Weight2, Bias2, Result2, Stride2, Tiles2) = (weight, bias, result, stride, tiles);
                break;
        }
    }
}

/// <summary>Products of up to 128 rows on tensor cores in BF16 with sums in F32, straight from the packed weight, and weights as matrices of BF16.</summary>
internal sealed unsafe class TensorProducts(CachingMemory memory)
{
    // Constants of tensor_units.cuh, tensor_few.cuh and tensor_many.cuh.
    private const int UnitRows = 16, UnitColumns = 128, Warps = 8, Threads = 256, ManyStages = 3, ManyStride = 320;

    // Blocks that a card runs at once, about; a constant, so that sums keep their order on any card.
    private const int Blocks = 264;

    // Beyond these a weight that becomes a matrix once is faster.
    private const int FewRows = 8, MostRows = 128, MostRowsDense = 16, MostCounters = 1 << 14;

    /// <summary>Shared memory that a block takes besides its call's.</summary>
    public const int OwnShared = 11 << 10;

    // Shared memory of a multiprocessor of cards from 9.0 on.
    private const int MultiprocessorShared = 227 << 10;

    // Rows that one pass over a weight takes, in eights: what its sums leave registers for.
    private static readonly int[] ManyEights = CudaKernelNames.ManyEights;

    private readonly CudaCounters _counters = memory.Counters(MostCounters);

    /// <summary>
    /// y (+)= x·Wᵀ + bias, unless the weight or the number of rows has no kernel here. Rows so long that a multiprocessor holds one block of them
    /// take the way of many rows: its launch more costs less than loads that wait (8 rows × 4096×11008 of 8 bits on an H100: 25 µs for 44).
    /// </summary>
    public bool TryMultiply(CudaPacking weight, in CudaProduct call)
    {
        if (weight.TensorFormat is not { } format || call.Rows > (weight is DenseCudaPacking ? MostRowsDense : MostRows))
        {
            return false;
        }

        int units = (int)((weight.In + UnitColumns - 1) / UnitColumns), table = TableBytes(format);
        nint tiles = ((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows);
        if (SharedOfFew(format, weight.In, call.Rows) is { } shared && (call.Rows == 1 || tiles <= Blocks / 2 || 2 * (shared + OwnShared) <= MultiprocessorShared))
        {
            FewCall few = new()
            {
                Weight0 = weight.Argument, Bias0 = call.Bias, Result0 = call.Y, Stride0 = call.YStride, Tiles0 = (int)tiles, Rows = (int)call.Rows, X = call.X,
                First = call.First, Count = call.Count, Add = call.Add ? 1 : 0,
            };
            LaunchFew(few, format, tiles, shared);
            return true;
        }

        nint blocks = (tiles + Warps - 1) / Warps;
        if (blocks > MostCounters)
        {
            return false;
        }

        for (nint row = 0; row < call.Rows; row += 8 * ManyEights[^1])
        {
            nint rows = nint.Min(8 * ManyEights[^1], call.Rows - row);
            CudaProduct part = call with { X = call.X + (row * weight.In * sizeof(float)), Y = call.Y + (row * call.YStride * sizeof(float)), Rows = rows };
            MultiplyMany(weight, part, format, units, blocks, table);
        }

        return true;
    }

    /// <summary>
    /// Up to three products of the same few rows in one launch, with x normalized first if there is a norm; with <paramref name="gated"/>
    /// the first result becomes silu(first)·second. False if the weights don't share a kernel.
    /// </summary>
    public bool TryMultiply(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> products, bool gated)
    {
        CudaPacking first = (CudaPacking)products[0].Weight;
        if (first.TensorFormat is not { } format || first.In == 0 || products.Length > FewCall.MostWeights || SharedOfFew(format, first.In, rows) is not { } shared)
        {
            return false;
        }

        foreach (FusedProduct product in products)
        {
            CudaPacking weight = (CudaPacking)product.Weight;
            if (weight.TensorFormat != format || weight.In != first.In || weight.Out == 0 || weight.Activations != ActivationType.F32
                || !weight.Levels.SequenceEqual(first.Levels) || (gated && weight.Out != first.Out))
            {
                return false;
            }
        }

        FewCall call = new()
        {
            Rows = (int)rows, X = x, Norm = norm.Kind, NormWeight = CudaStorage.AddressOf(norm.Weight), NormBias = CudaStorage.AddressOf(norm.Bias),
            Epsilon = norm.Epsilon, Gated = gated ? 1 : 0,
        };
        nint tiles = 0;
        for (int i = 0; i < products.Length; i++)
        {
            CudaPacking weight = (CudaPacking)products[i].Weight;
            nint own = (weight.Out + UnitRows - 1) / UnitRows;
            call.Set(i, weight.Argument, CudaStorage.AddressOf(products[i].Bias), CudaStorage.AddressOf(products[i].Result), weight.Out, (int)own);
            tiles = gated ? own : tiles + own;
        }

        LaunchFew(call, format, tiles, shared);
        return true;
    }

    /// <summary>Writes rows as a matrix of BF16, unless the weight has no kernel for it.</summary>
    public bool TryExpand(CudaPacking weight, nint first, nint count, nint matrix)
    {
        if (weight.TensorFormat is not { } format || weight.In % 8 != 0 || weight is DenseCudaPacking)
        {
            return false;
        }

        nint tiles = ((first + count + UnitRows - 1) / UnitRows) - (first / UnitRows);
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Tensor("expand", format), new LaunchShape(tiles, Threads, 2), [KernelArgument.Structure(packed), first, count, matrix]);
        }

        return true;
    }

    /// <summary>Shared memory that a kernel of few rows may ask for: cards before 9.0 have less.</summary>
    public static int MostShared(CudaFacts facts) => Math.Min(200 << 10, facts.SharedBytes - OwnShared);

    // Bytes of shared memory, or null if the kernel of few rows can't take them.
    private int? SharedOfFew(string format, nint columns, nint rows)
    {
        nint units = (columns + UnitColumns - 1) / UnitColumns;
        nint shared = TableBytes(format) + (rows * ((units * UnitColumns * 2) + 64)) + (units * 4 * FewRows * sizeof(float));
        return rows <= FewRows && shared <= MostShared(memory.Device.Facts) ? (int)shared : null;
    }

    private void LaunchFew(FewCall call, string format, nint tiles, int shared)
    {
        int all = memory.Device.Facts.Multiprocessors;
        bool three = CudaKernelNames.Few3Formats.Contains(format) && tiles >= 3 * all && 3 * (shared + OwnShared) <= MultiprocessorShared;
        memory.Device.Launch(
            CudaKernelNames.Tensor(three ? "few3" : "few", format),
            new LaunchShape(nint.Min(tiles, (three ? 3 : 2) * all), Threads, 1, shared, Overlaps: true),
            [KernelArgument.Structure(&call)]);
    }

    // x becomes BF16 once; blocks share the columns where features alone are too few to fill a card.
    private void MultiplyMany(CudaPacking weight, in CudaProduct call, string format, int units, nint blocks, int table)
    {
        nint rows = call.Rows;
        int eights = ManyEights.First(n => 8 * n >= rows), padded = 8 * eights;
        // As many as run at once: more would be a second round.
        int splits = Math.Clamp((int)(Blocks / blocks), 1, Math.Max(1, units / 3));
        nint pieces = (nint)units * (UnitColumns / 8) * padded;
        using CudaStorage half = memory.Rent((nint)units * UnitColumns * padded * 2, "activations");
        using CudaStorage sums = memory.Rent((nint)units * 4 * padded * sizeof(float), "activations");
        using CudaStorage parts = memory.Rent(blocks * splits * eights * 4 * Threads * sizeof(float), "activations");
        memory.Device.Launch(
            CudaKernelNames.Of("half_rows"), CudaGrid.Elements(pieces) with { Overlaps = true }, [call.X, weight.In, (int)rows, padded, half.Address, sums.Address]);
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Many(format, eights),
                new LaunchShape(blocks, Threads, splits, table + (ManyStages * padded * ManyStride), Overlaps: true),
                [
                    KernelArgument.Structure(packed), half.Address, sums.Address, (int)rows, call.Bias, call.Y, call.YStride, call.First, call.Count,
                    call.Add ? 1 : 0, parts.Address, _counters.Address,
                ]);
        }
    }

    // A pair of codes has an entry for each lane: 2^(2·bits) entries of 128 bytes; codes of 8 bits need none.
    private static int TableBytes(string format) => format.Split('_')[0] switch
    {
        "codebook4" or "affine4" => 256 * 128,
        "affine3" => 64 * 128,
        "affine2" => 16 * 128,
        _ => 0,
    };
}
